"""The card as plain JSON: every figure that the page shows, and those behind its plots."""

import math
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from typing import Any, cast

from ai.card.summary import Card

#: Changes when a key does.
FORMAT = "pellucid card 1"


def as_document(card: Card) -> dict[str, Any]:
    """Return the card as what JSON can hold; a number that is none is null."""
    candidates = [
        {"name": c.name, "method": c.method, "parameters": _plain(c.parameters)}
        for c in card.settings.candidates
    ]
    settings = {
        "candidates": candidates,
        "seed": card.settings.seed,
        "curve_cases": card.settings.curve_cases,
        "steps": card.settings.steps,
        "randomized_cases": card.settings.randomized_cases,
        "passes": card.settings.passes,
    }
    content = {
        name: _plain(getattr(card, name))
        for name in (
            "provenance", "model", "labels", "is_classifier", "threshold", "data", "diagnosis",
            "dice", "explainers", "choice", "gate", "prediction_seconds", "unmeasured", "warnings",
        )
    }  # fmt: skip
    return {"format": FORMAT, **content, "settings": settings}


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return _plain(asdict(cast("Any", value)))
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
