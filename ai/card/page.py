"""The card as one page of HTML that needs nothing beside it: plots and pictures are part of it."""

import base64
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from ai.card.examples import Example
from ai.card.plots_diagnosis import overlap_plot, reliability_plot, roc_plot
from ai.card.plots_explainers import curves_plot, forest_plot, forgetting_plot, gate_plot
from ai.card.records import CaseRecord
from ai.card.summary import Card
from ai.card.words import counted, interval_text, percent_text, seconds_text, shown_name
from ai.limits import memory_text

_TEMPLATE = "page.html.j2"
_LOCALIZATION = ("mass", "rank", "pointing", "iou")
_CONDUCT = ("comprehensiveness", "sufficiency", "stability", "gini")


def page_of(
    card: Card, records: Sequence[CaseRecord], examples: Sequence[Example], snippet: str
) -> str:
    """Return the page.

    Parameters
    ----------
    records
        Of all cases: single maps are drawn beside the gate's limits.
    snippet
        The proposed tables, as they are shown.
    """
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "counted": counted,
        "interval": interval_text,
        "percent": percent_text,
        "seconds": seconds_text,
        "memory": memory_text,
        "shown": shown_name,
    }
    template = files("ai.card").joinpath(_TEMPLATE).read_text(encoding="utf-8")
    return environment.from_string(template).render(
        card=card,
        plots=_plots(card, [record for record in records if not record.problem]),
        examples=[{"example": each, "picture": _embedded(each.path)} for each in examples],
        snippet=snippet,
        best_control=_best_control(card),
    )


def _plots(card: Card, records: Sequence[CaseRecord]) -> dict[str, Any]:
    calibration = card.diagnosis.calibration
    name = card.choice.name or card.settings.candidates[0].name
    found = {
        "reliability": reliability_plot(calibration) if calibration else None,
        "overlap": overlap_plot(card.dice) if card.dice else None,
        "localization": forest_plot(card.explainers, _LOCALIZATION, name="localization"),
        "conduct": forest_plot(card.explainers, _CONDUCT, name="conduct"),
        "curves": curves_plot(card.explainers),
        "forgetting": forgetting_plot(card.explainers),
        "gate": gate_plot(records, card.gate, name),
    }
    drawn: dict[str, Any] = {key: Markup(svg) if svg else None for key, svg in found.items()}  # noqa: S704 - drawn by us
    drawn["roc"] = [
        (each, Markup(roc_plot(each, number)))  # noqa: S704 - drawn by us
        for number, each in enumerate(card.diagnosis.labels)
    ]
    return drawn


def _best_control(card: Card) -> tuple[str, str] | None:
    """Return name and figure of the control that comes nearest to the chosen explainer."""
    measure = card.choice.by
    found = [each for each in card.explainers if each.is_control and measure in each.measures]
    if not found:
        return None
    best = max(found, key=lambda each: each.measures[measure].estimate)
    return best.name, interval_text(best.measures[measure])


def _embedded(path: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()
