"""Our measures beside those of quantus 0.6, where it runs: it refuses three axes in space.

Not compared: PixelFlipping and IROF do not run with numpy 2.4, SmoothMPRT explains by itself
whatever method it is given, and ROAD as a whole counts correct classes where ours measures a
target.
"""

import numpy as np
import pytest
import torch
from torch import nn

from ai.quality.complexity import entropy_complexity, gini, histogram_entropy
from ai.quality.imputation import filled
from ai.quality.localization import (
    hit_rate,
    pointing_game,
    relevance_mass_accuracy,
    relevance_rank_accuracy,
)
from ai.quality.randomization import emprt
from ai.quality.robustness import max_sensitivity
from tests.build_networks import image

QUIET = {"disable_warnings": True, "display_progressbar": False}
AS_IT_IS = {"abs": False, "normalise": False, **QUIET}
LABELS = np.array([0, 1, 2])


@pytest.fixture(scope="module")
def quantus():
    # Its OpenCV needs libraries of a desktop, which a machine may lack.
    return pytest.importorskip("quantus", exc_type=ImportError)


def maps():
    return image(3, 1, 12, 10)


@pytest.mark.parametrize(
    ("theirs", "ours"), [("Sparseness", gini), ("Complexity", entropy_complexity)]
)
def test_complexity_is_theirs(quantus, theirs, ours):
    measure = getattr(quantus, theirs)(abs=True, normalise=False, **QUIET)

    reference = measure(model=None, x_batch=maps().numpy(), y_batch=LABELS, a_batch=maps().numpy())

    assert ours(maps()).tolist() == pytest.approx(list(map(float, reference)), abs=1e-6)


def test_histogram_entropy_is_theirs(quantus):
    reference = quantus.functions.complexity_func.discrete_entropy(maps()[1].numpy(), None)

    assert histogram_entropy(maps())[1].item() == pytest.approx(float(reference))


@pytest.mark.parametrize(
    ("theirs", "ours", "parameters"),
    [
        ("PointingGame", pointing_game, {}),
        ("RelevanceMassAccuracy", relevance_mass_accuracy, {}),
        ("RelevanceRankAccuracy", relevance_rank_accuracy, {}),
        (
            "TopKIntersection",
            lambda relevance, truth: hit_rate(relevance, truth, count=7),
            {"k": 7},
        ),
    ],
)
def test_localization_is_theirs(quantus, theirs, ours, parameters):
    relevance, truth = maps().abs().numpy(), np.zeros((3, 1, 12, 10), dtype=bool)
    truth[:, :, 2:8, 1:6] = True
    measure = getattr(quantus, theirs)(**parameters, **AS_IT_IS)

    reference = measure(
        model=None, x_batch=relevance, y_batch=LABELS, a_batch=relevance.copy(), s_batch=truth
    )

    values = [ours(*pair) for pair in zip(relevance[:, 0], truth[:, 0], strict=True)]
    assert values == pytest.approx(list(map(float, reference)))


def test_what_is_filled_is_theirs_without_noise(quantus):
    values, removed = image(2, 16, 14), image(16, 14, seed=1) < 0.3

    reference = quantus.noisy_linear_imputation(
        values.numpy().copy(), np.flatnonzero(removed.numpy()), noise=0.0
    )

    assert filled(values, removed).numpy().ravel() == pytest.approx(reference.ravel(), abs=1e-3)


def network():
    torch.manual_seed(0)
    layers = nn.Conv2d(1, 2, 3, padding=1), nn.Flatten(), nn.Linear(2 * 12 * 10, 3)
    return nn.Sequential(*layers).eval()


def test_max_sensitivity_is_theirs_on_the_same_images(quantus):
    x, seen = maps(), []

    def explain(moved):
        seen.append(moved)
        return moved**3

    values = max_sensitivity(
        explain, x, x**3, generator=torch.Generator().manual_seed(0), radius=0.1, samples=3
    )

    moved = iter(seen)
    measure = quantus.MaxSensitivity(
        nr_samples=3, perturb_func=lambda **_: next(moved).flatten(1).numpy(), **AS_IT_IS
    )
    reference = measure(
        model=network(),
        x_batch=x.numpy(),
        y_batch=LABELS,
        a_batch=(x**3).numpy(),
        explain_func=lambda inputs, **_: np.asarray(inputs) ** 3,
        channel_first=True,
    )
    assert values.tolist() == pytest.approx(list(map(float, reference)), rel=1e-5)


def test_emprt_is_theirs_of_the_same_maps(quantus):
    subject = network()
    learned, before, after = subject[0].weight.clone(), maps() ** 5, image(3, 1, 12, 10, seed=1)

    def explain(asked, _x):
        return before if torch.equal(asked[0].weight, learned) else after

    values = emprt(explain, subject, maps(), generator=torch.Generator().manual_seed(0))

    measure = quantus.EfficientMPRT(complexity_func_kwargs={"n_bins": 100}, **QUIET)
    reference = measure(
        model=subject,
        x_batch=maps().numpy(),
        y_batch=LABELS,
        explain_func=lambda model, **_: explain(model, None).numpy(),
        channel_first=True,
        device="cpu",
    )
    assert values.tolist() == pytest.approx(list(map(float, reference)))
