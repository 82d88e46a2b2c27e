"""How well a model finds the phantoms' lesions, and how well a heatmap shows them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ai.model import Explainer, Model
from ai.phantom.make import Phantom
from ai.prepare import to_source_grid
from ai.quality.controls import intensity_map, random_map, sobel_map
from ai.quality.localization import (
    pointing_game,
    relevance_mass_accuracy,
    relevance_rank_accuracy,
)
from ai.reliability.discrimination import area_under_curve
from ai.targets import ClassLogit

_PERCENTILES = (1, 5, 25, 50, 75, 95, 99, 99.9)


@dataclass(frozen=True, slots=True, kw_only=True)
class Localization:
    """Where a map points in one phantom with a lesion, each 0 (bad) to 1 (good)."""

    pointing: float
    mass_accuracy: float
    rank_accuracy: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What the model and the controls said of one phantom."""

    has_lesion: bool
    logit: float
    probability: float
    #: Name of a trivial statistic of brightness to its value.
    brightness: Mapping[str, float]
    #: Name of an explainer or a control to its localization; empty without a lesion.
    maps: Mapping[str, Localization]


def read_phantom(
    phantom: Phantom, model: Model, explainers: Mapping[str, Explainer], rng: np.random.Generator
) -> Reading:
    """Return what the model, its explainers and the model-blind controls say of a phantom.

    Parameters
    ----------
    explainers
        By the name under which their maps are returned; they run on phantoms with a lesion.
    rng
        Draws the random control.
    """
    prepared = model.prepare(phantom.volume)
    prediction = model.predict(prepared)
    image = phantom.volume.voxels[0]
    maps: dict[str, NDArray[np.float32]] = {}
    if phantom.has_lesion:
        for name, explainer in explainers.items():
            found = explainer.explain(model.network, prepared.tensor, ClassLogit(0))
            maps[name] = to_source_grid(found.values[0], prepared)[0]
        maps["random"] = random_map(image.shape, rng)
        maps["sobel"] = sobel_map(image)
        maps["intensity"] = intensity_map(image)
    return Reading(
        has_lesion=phantom.has_lesion,
        logit=float(prediction.output[0, 0]),
        probability=float(next(iter(prediction.probabilities.values()))),
        brightness=brightness_statistics(image),
        maps={name: localization(each, phantom.truth) for name, each in maps.items()},
    )


def localization(relevance: NDArray[np.float32], truth: NDArray[np.bool_]) -> Localization:
    """Return how well relevance [*S] falls onto the truth; raises MeasureError."""
    return Localization(
        pointing=pointing_game(relevance, truth),
        mass_accuracy=relevance_mass_accuracy(relevance, truth),
        rank_accuracy=relevance_rank_accuracy(relevance, truth),
    )


def brightness_statistics(image: NDArray[np.float32]) -> dict[str, float]:
    """Return what a classifier by thresholds could look at: extremes, mean, spread, percentiles."""
    head = image[image > 0]
    percentiles = np.percentile(head, _PERCENTILES)
    return {
        "maximum": float(head.max()),
        "mean": float(head.mean()),
        "standard deviation": float(head.std()),
        "maximum over mean": float(head.max() / head.mean()),
        "variation": float(head.std() / head.mean()),
        **{f"percentile {p:g}": float(v) for p, v in zip(_PERCENTILES, percentiles, strict=True)},
    }


def threshold_area(readings: Sequence[Reading]) -> tuple[str, float]:
    """Return the best of the trivial statistics, in whichever direction, and its area."""
    truths = [each.has_lesion for each in readings]
    areas = {
        name: area_under_curve([each.brightness[name] for each in readings], truths)
        for name in readings[0].brightness
    }
    best = max(areas, key=lambda name: abs(areas[name] - 0.5))
    return best, max(areas[best], 1 - areas[best])


def mean_localizations(readings: Iterable[Reading]) -> dict[str, Localization]:
    """Return each map's localization, averaged over the phantoms with a lesion."""
    maps = [each.maps for each in readings if each.has_lesion]
    return {
        name: Localization(
            pointing=float(np.mean([each[name].pointing for each in maps])),
            mass_accuracy=float(np.mean([each[name].mass_accuracy for each in maps])),
            rank_accuracy=float(np.mean([each[name].rank_accuracy for each in maps])),
        )
        for name in (maps[0] if maps else {})
    }
