import math

import pytest
import torch
from sklearn.covariance import ledoit_wolf

from ai.errors import CalibrationError
from ai.reliability.answers import Activation
from ai.reliability.discrimination import area_under_curve
from ai.reliability.out_of_distribution import (
    crossed_distances,
    energies,
    familiar_limit,
    fit_features,
    shrunk_covariance,
)


def noise(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def mixed(count, width, *, seed=0):
    """Features that hang together: few causes, many features."""
    causes = noise(count, 4, seed=seed)
    return causes @ noise(4, width, seed=99) + 0.3 * noise(count, width, seed=seed + 1)


def alike(count):
    return torch.zeros(count, dtype=torch.int64)


def test_the_energy_of_classes_is_that_of_the_paper():
    logits = torch.tensor([[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]])

    found = energies(logits, Activation.SOFTMAX)

    expected = [-math.log(math.e + math.e**2 + math.e**3), -math.log(3)]
    assert found.tolist() == pytest.approx(expected)


def test_a_firm_no_is_as_familiar_as_a_firm_yes():
    found = energies(torch.tensor([[-6.0], [0.0], [6.0]]), Activation.SIGMOID)

    assert found[0] == found[2]
    assert found[1].item() == pytest.approx(-math.log(2))
    assert found[0].item() == pytest.approx(-math.log(2 * math.cosh(3)))


def test_energies_of_several_findings_are_added():
    both = energies(torch.tensor([[2.0, -1.0]]), Activation.SIGMOID)
    apart = energies(torch.tensor([[2.0], [-1.0]]), Activation.SIGMOID)

    assert both.item() == pytest.approx(apart.sum().item())


def test_the_distance_in_features_of_their_own_scales_is_counted_in_deviations():
    scales = torch.tensor([1.0, 100.0], dtype=torch.float64)
    model = fit_features(noise(20000, 2) * scales + 5, alike(20000))

    found = model.distances(torch.tensor([[5.0, 5.0], [8.0, 5.0], [5.0, 405.0]]))

    assert found.tolist() == pytest.approx([0.0, 3.0, 4.0], abs=0.05)


def test_the_nearest_class_counts():
    classes = torch.arange(4000) % 2
    features = noise(4000, 3) + 10 * classes[:, None]

    model = fit_features(features, classes)
    found = model.distances(torch.tensor([[0.0] * 3, [10.0] * 3, [5.0] * 3]))

    assert model.means.shape == (2, 3)
    assert found.tolist() == pytest.approx([0.0, 0.0, math.sqrt(75)], abs=0.2)


def test_a_familiar_image_is_about_the_root_of_the_features_away():
    model = fit_features(mixed(4000, 30), alike(4000))

    found = model.distances(mixed(1000, 30, seed=7))

    assert found.mean().item() == pytest.approx(math.sqrt(30), rel=0.05)


@pytest.mark.parametrize("count", [5, 40, 2000])
def test_the_covariance_is_shrunk_as_by_sklearn(count):
    values = mixed(count, 20)
    centered = values - values.mean(dim=0)

    expected, _ = ledoit_wolf(centered.numpy(), assume_centered=True)

    assert torch.allclose(shrunk_covariance(centered), torch.from_numpy(expected))


def test_fewer_images_than_features_still_tell_what_is_strange():
    model = fit_features(mixed(25, 60), alike(25))
    familiar, strange = mixed(200, 60, seed=5), 3 * noise(200, 60, seed=6)

    distances = torch.cat((model.distances(familiar), model.distances(strange)))

    assert area_under_curve(distances.numpy(), torch.arange(400).numpy() >= 200) >= 0.95


def test_a_feature_that_was_never_active_is_strange_when_it_is():
    features = mixed(100, 8)
    features[:, 3] = 0.0
    model = fit_features(features, alike(100))

    woken = features[:1].clone()
    woken[:, 3] = 5.0

    assert torch.isfinite(model.precision).all()
    assert model.distances(woken) > model.distances(features).max()


def test_images_are_not_measured_by_statistics_that_they_are_part_of():
    features = mixed(60, 40)

    inside = fit_features(features, alike(60)).distances(features)
    crossed = crossed_distances(features, alike(60))
    others = fit_features(features, alike(60)).distances(mixed(2000, 40, seed=11))

    assert inside.mean() < 0.95 * others.mean()
    assert crossed.mean().item() == pytest.approx(others.mean().item(), rel=0.1)


def test_a_limit_accepts_as_many_new_images_as_asked():
    features = mixed(1000, 10)
    limit = familiar_limit(crossed_distances(features, alike(1000)), 0.95)

    accepted = fit_features(features, alike(1000)).distances(mixed(4000, 10, seed=3)) <= limit

    assert accepted.double().mean().item() == pytest.approx(0.95, abs=0.02)


def test_the_limit_of_few_images_is_the_greatest_score():
    assert familiar_limit(torch.tensor([3.0, 9.0, 1.0]), 0.99) == 9.0


def test_features_that_tell_nothing_are_refused():
    with pytest.raises(CalibrationError, match="all alike in each class"):
        fit_features(torch.ones(10, 4), alike(10))
    with pytest.raises(CalibrationError, match="expected finite"):
        fit_features(torch.full((10, 4), math.nan), alike(10))
    with pytest.raises(CalibrationError, match=r"classes \(9,\)"):
        fit_features(torch.ones(10, 4), alike(9))
