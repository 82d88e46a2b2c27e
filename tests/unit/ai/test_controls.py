import numpy as np
import pytest
import torch

from ai.quality.controls import darkness_map, intensity_map, random_map, sobel_map
from ai.quality.faithfulness import comprehensiveness, sufficiency
from ai.quality.localization import (
    hit_rate,
    pointing_game,
    relevance_mass_accuracy,
    relevance_rank_accuracy,
)
from ai.targets import ClassLogit
from tests.build_networks import Linear, image


def test_random_map_repeats_with_its_seed():
    first = random_map((3, 4), np.random.default_rng(7))

    again = random_map((3, 4), np.random.default_rng(7))

    assert np.array_equal(first, again)
    assert first.dtype == np.float32
    assert 0.0 <= first.min() <= first.max() < 1.0


def test_intensity_and_darkness_are_mirror_images_from_zero():
    image = np.array([[-1000.0, 0.0], [40.0, 1000.0]])

    assert intensity_map(image).tolist() == [[0.0, 1000.0], [1040.0, 2000.0]]
    assert darkness_map(image).tolist() == [[2000.0, 1000.0], [960.0, 0.0]]


def test_sobel_map_of_a_ramp_is_constant_along_it():
    ramp = np.broadcast_to(np.arange(8.0), (1, 6, 8))

    edges = sobel_map(ramp)

    # A 3 x 3 Sobel kernel answers a slope of 1 with 2 (difference) times 4 (smoothing) on each
    # further axis; the axis of length 1 adds its own smoothing sum of 4.
    assert edges.shape == (1, 6, 8)
    assert edges[0, :, 1:-1] == pytest.approx(32.0)


def test_sobel_map_of_an_even_image_is_zero():
    assert not sobel_map(np.full((4, 4, 4), 7.0)).any()


@pytest.mark.parametrize("shape", [(30, 30), (10, 10, 9)])
def test_random_maps_find_a_structure_by_its_share_of_the_image(shape):
    truth = np.zeros(shape, dtype=bool)
    truth[:3] = True
    share, maps = truth.mean(), [random_map(shape, np.random.default_rng(s)) for s in range(300)]

    for measure in (relevance_mass_accuracy, relevance_rank_accuracy, pointing_game, hit_rate):
        found = np.mean([measure(each, truth) for each in maps])
        assert found == pytest.approx(share, abs=0.07 if measure is pointing_game else 0.02)


@pytest.mark.parametrize("measure", [comprehensiveness, sufficiency])
def test_random_maps_are_no_better_than_other_places(measure):
    x = image(1, 1, 24, 24)
    network = Linear(x.clone()).eval()

    contrasts = [
        measure(
            network,
            x,
            ClassLogit(0),
            torch.from_numpy(random_map(x.shape, np.random.default_rng(seed))),
        )
        for seed in range(6)
    ]

    assert np.mean(contrasts) == pytest.approx(0.0, abs=0.1)
