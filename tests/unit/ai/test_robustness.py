import math

import pytest
import torch
from captum.metrics import sensitivity_max

from ai.errors import MeasureError
from ai.quality.robustness import max_sensitivity, noisy, stability
from tests.build_networks import image


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def unchanged(x):
    return x


@pytest.mark.parametrize("shape", [(200, 200), (32, 32, 32)])
def test_a_map_that_is_the_image_is_as_stable_as_the_noise_lets_it(shape):
    x = 5.0 + 3.0 * image(1, 1, *shape, seed=9)

    value = stability(unchanged, x, x, generator=seeded(), noise=0.5)

    # Pearson's correlation of a normal image with noise of half its deviation, as Spearman's.
    correlation = 1 / math.sqrt(1 + 0.5**2)
    assert value.item() == pytest.approx(6 / math.pi * math.asin(correlation / 2), abs=0.01)


def test_a_map_that_does_not_look_is_stable_and_one_of_chance_is_not():
    x, drawn = image(1, 1, 40, 40), iter((image(1, 1, 40, 40, seed=1), None))

    fixed = stability(lambda _x: x, x, x, generator=seeded())
    chance = stability(lambda _x: next(drawn), x, x, generator=seeded())

    assert fixed.item() == pytest.approx(1.0)
    assert abs(chance.item()) < 0.1


def test_a_map_that_is_the_same_everywhere_is_not_stable():
    x = image(1, 1, 8, 8)

    assert stability(torch.zeros_like, x, x, generator=seeded()).item() == 0.0


def test_noise_is_a_share_of_each_channel_and_the_same_for_each_entry():
    x = image(2, 2, 50, 50) * torch.tensor([1.0, 100.0]).view(1, 2, 1, 1)

    added = noisy(x, 0.1, seeded()) - x

    assert added.std(dim=(2, 3))[0].tolist() == pytest.approx([0.1, 10.0], rel=0.1)
    shares = added / x.std(dim=(2, 3), keepdim=True, correction=0)
    assert torch.allclose(shares[0], shares[1], atol=1e-3)


def test_one_explanation_more_is_made_for_stability_and_so_many_for_sensitivity():
    x, seen = image(2, 1, 8, 8), []

    def explain(image):
        seen.append(image)
        return image

    stability(explain, x, x, generator=seeded())
    max_sensitivity(explain, x, x, generator=seeded(), samples=4)

    assert len(seen) == 1 + 4


def test_sensitivity_of_a_linear_map_is_that_of_its_image():
    x, seen = image(2, 1, 6, 6), []

    def explain(image):
        seen.append(image)
        return 3.0 * image

    value = max_sensitivity(explain, x, 3.0 * x, generator=seeded(), radius=0.1, samples=6)

    moves = torch.stack([(each - x).flatten(1) for each in seen])
    expected = (moves.norm(dim=2) / x.flatten(1).norm(dim=1)).amax(dim=0)
    assert value.tolist() == pytest.approx(expected.tolist(), rel=1e-5)
    bound = 0.1 * x.flatten(1).std(dim=1, correction=0)
    assert bool((moves.abs().amax(dim=(0, 2)) <= bound * 1.00001).all())
    assert bool((moves.abs().amax(dim=(0, 2)) > 0.9 * bound).all())


def test_sensitivity_is_that_of_captum_on_the_same_images():
    x, seen = image(1, 1, 5, 5, 5), []

    def explain(image):
        seen.append(image)
        return image**3

    value = max_sensitivity(explain, x, x**3, generator=seeded(), radius=0.2, samples=3)

    moved = iter(seen)
    reference = sensitivity_max(
        lambda inputs: inputs[0] ** 3 if isinstance(inputs, tuple) else inputs**3,
        x,
        perturb_func=lambda _x, _radius: next(moved),
        n_perturb_samples=3,
        max_examples_per_batch=1,
    )
    assert value.tolist() == pytest.approx(reference.tolist(), rel=1e-5)


def test_a_map_of_zeros_is_insensitive_as_long_as_it_remains_one():
    x = image(1, 1, 6, 6)
    none = torch.zeros_like(x)

    assert max_sensitivity(torch.zeros_like, x, none, generator=seeded()).item() == 0.0
    assert max_sensitivity(unchanged, x, none, generator=seeded()).item() == math.inf


def test_what_cannot_be_measured_is_refused():
    x = image(1, 1, 6, 6)

    with pytest.raises(MeasureError, match="on one grid"):
        stability(lambda _x: image(1, 1, 3, 3), x, x, generator=seeded())
    with pytest.raises(MeasureError, match="0 samples"):
        max_sensitivity(unchanged, x, x, generator=seeded(), samples=0)
