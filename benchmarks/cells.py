"""One cell of the matrix: a method on a network, and whether what comes out may stand.

A cell is *ok*, *not applicable* where the graph of the network says so (``REFUSALS``), or has
*failed*. There is no fourth: a map that is not finite, says nothing or does not add up has failed.
"""

import importlib.metadata
from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from functools import cache
from typing import Any

import torch

from ai.errors import ExplanationError, UnsuitableLayerError
from ai.model import Attribution, Explainer, Needs, Settings
from benchmarks.networks import MATRIX, Subject


class Outcome(StrEnum):
    """How a cell came out."""

    OK = "ok"
    NOT_APPLICABLE = "not applicable"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """What one method gave on one network."""

    network: str
    method: str
    outcome: Outcome
    #: Of its axiom, relative; None for a method without.
    residual: float | None = None
    #: Why it is not applicable, or what is wrong.
    why: str = ""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Where a method has nothing to work on, by the graph of the network alone."""

    #: For a reader: what the network lacks.
    why: str
    #: What a method needs, or its name.
    asks: frozenset[Needs | str]
    networks: frozenset[str]
    #: How the method says so.
    error: type[ExplanationError]


#: Networks in which patches of the image, or images of a bag, attend to each other.
_ATTENTIVE = frozenset({"ViT-2D", "ViT-3D", "UNETR", "MILModel"})
#: Classifiers whose last layer reads the mean of a feature map.
_POOLED = frozenset(
    {"DenseNet121", "ResNet18", "ResNet50", "ResNet18-3D", "EfficientNet-B0", "SEResNet50"}
)

#: Segmenters that end in a 1 x 1 convolution.
_READ_AT_EACH_PLACE = frozenset({"SegResNet", "DynUNet", "UNETR", "SwinUNETR", "AttentionUnet"})

REFUSALS: tuple[Refusal, ...] = (
    Refusal(
        why="no linear layer at its end that reads a feature map, pooled or at each place",
        asks=frozenset({"cam"}),
        networks=frozenset(MATRIX) - _POOLED - _READ_AT_EACH_PLACE,
        error=UnsuitableLayerError,
    ),
    Refusal(
        why="nothing that covers the image attends to it: there is no attention, or only within "
        "windows that move",
        asks=frozenset({Needs.ATTENTION}),
        networks=frozenset(MATRIX) - _ATTENTIVE,
        error=UnsuitableLayerError,
    ),
    Refusal(
        why="no head that sums up evidence: none of these was built to explain itself",
        asks=frozenset({Needs.EVIDENCE}),
        networks=frozenset(MATRIX),
        error=UnsuitableLayerError,
    ),
)

#: Parameters that let a method finish in seconds where its default is meant for real images.
QUICK: Mapping[str, Mapping[str, Any]] = {
    "deeplift_shap": {"references": 2},
    "expected_gradients": {"references": 2, "first_samples": 4, "most_samples": 4},
    "integrated_gradients": {"first_steps": 2, "most_steps": 4},
    "kernel_shap": {"players": 3, "samples": 8},
    "lime": {"players": 3, "samples": 8},
    "occlusion": {"cells": 2, "refine": (1,)},
    "rise": {"cells": 1, "masks": 8},
    "smoothgrad": {"samples": 4},
}

#: Most that the residual of an exact method may be, in float32.
BOUNDS: Mapping[str, float] = {
    "lrp": 1e-4,
    "deeplift": 1e-4,
    "deeplift_shap": 1e-4,
    "kernel_shap": 1e-3,
}
#: For all others: beyond it, or the method's own tolerance, there must be a warning.
_BOUND_WITHOUT_WARNING = 0.01


@cache
def methods() -> dict[str, type[Explainer]]:
    """Return every explainer that is installed, by name."""
    entries = importlib.metadata.entry_points(group="pellucid.explainers")
    return {entry.name: entry.load() for entry in entries}


def quick(method: str) -> Explainer:
    """Return a method with its quick parameters, or its defaults where it has none."""
    return methods()[method](**QUICK.get(method, {}))


def parameters_of(method: str) -> dict[str, Any]:
    """Return what differs from the defaults in a cell of the matrix.

    Maps that are cut at zero are not: of random weights nothing at all may speak for a class.
    """
    found = dict(QUICK.get(method, {}))
    if any(each.name == "signed" and each.default is False for each in fields(methods()[method])):
        found["signed"] = True
    return found


def refusal_of(method: str, network: str) -> Refusal | None:
    """Return why a method cannot work on a network; None: it can."""
    asked = {method, methods()[method].needs}
    return next((each for each in REFUSALS if asked & each.asks and network in each.networks), None)


def cell_of(subject: Subject, method: str, explainer: Explainer | None = None) -> Cell:
    """Return what a method gives on a network, with ``parameters_of`` it unless handed in."""
    refusal = refusal_of(method, subject.name)
    try:
        attribution = (explainer or methods()[method](**parameters_of(method))).explain(
            subject.network, subject.x, subject.target, Settings()
        )
    except Exception as error:  # noqa: BLE001, it is what the cell shows
        return _refused(subject, method, refusal, error)
    wrong = complaints(attribution, subject, method)
    if refusal:
        wrong = (f"gave a map although there is {refusal.why}", *wrong)
    residual = attribution.residual
    return Cell(
        network=subject.name,
        method=method,
        outcome=Outcome.FAILED if wrong else Outcome.OK,
        residual=None if residual is None else float(residual.max()),
        why="; ".join(wrong),
        warnings=attribution.warnings,
    )


def complaints(attribution: Attribution, subject: Subject, method: str) -> tuple[str, ...]:
    """Return what is wrong with a map: its grid, its values, its sum."""
    values, x = attribution.values, subject.x
    wrong = []
    if values.shape[0] != x.shape[0] or values.shape[2:] != x.shape[2:]:
        wrong.append(f"values of shape {tuple(values.shape)} for an input {tuple(x.shape)}")
    if not bool(torch.isfinite(values).all()):
        wrong.append("values that are not finite")
    elif float(values.max()) == float(values.min()):
        wrong.append(f"the same value everywhere ({float(values.max()):.3g})")
    if attribution.residual is not None:
        wrong += _beyond_bound(attribution, method)
    elif method in BOUNDS:
        wrong.append("no residual, though the method is exact")
    return tuple(wrong)


def _beyond_bound(attribution: Attribution, method: str) -> list[str]:
    residual = float(attribution.residual.max())
    tolerance = getattr(methods()[method](), "tolerance", _BOUND_WITHOUT_WARNING)
    bound = BOUNDS.get(method, tolerance)
    if residual <= bound or (method not in BOUNDS and attribution.warnings):
        return []
    return [f"residual {residual:.2g}, allowed {bound:.2g}"]


def _refused(subject: Subject, method: str, refusal: Refusal | None, error: Exception) -> Cell:
    said = f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ''}"
    expected = refusal is not None and type(error) is refusal.error
    return Cell(
        network=subject.name,
        method=method,
        outcome=Outcome.NOT_APPLICABLE if expected else Outcome.FAILED,
        why=refusal.why if expected and refusal else said,
    )
