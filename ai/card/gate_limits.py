"""Limits for the gate: where the good maps of the chosen explainer part from the controls'."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ai.card.cases import CONTROLS
from ai.card.records import CaseRecord
from ai.card.words import counted

#: Measures that a limit can be drawn for, and whether higher is better.
HIGHER_IS_BETTER = {
    "comprehensiveness": True,
    "specificity": True,
    "stability": True,
    "plausibility": True,
    "edges": False,
    "intensity": False,
}
#: Share of the good maps that each limit may stop.
STOPPED = 0.01
#: Fewer good maps say nothing about their worst.
LEAST_MAPS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """What is asked of one measure."""

    measure: str
    limit: float
    #: Of the good maps: the value that nearly all of them keep.
    kept: float
    #: Share of the good maps that pass, and of each control's maps that are stopped, 0 to 1.
    good_passed: float
    controls_stopped: dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class GateFigures:
    """All limits, and what they do together."""

    limits: tuple[Limit, ...] = ()
    good: int = 0
    good_passed: float = 0.0
    controls_stopped: dict[str, float] | None = None
    #: Why there are no limits; empty if there are some.
    unmeasured: str = ""


def proposed_limits(records: Sequence[CaseRecord], name: str) -> GateFigures:
    """Return limits that nearly all good maps of an explainer keep.

    A good map is one of something that the model found and, where that is known, that is there.
    The limit stands halfway between the good maps' worst (but one of a hundred) and the middle
    of the nearest control, or at the former where the two overlap.
    """
    good = [r for r in records if _is_good(r) and r.map_of(name) is not None]
    if len(good) < LEAST_MAPS:
        return GateFigures(
            good=len(good),
            unmeasured=f"Limits of the gate: {counted(len(good), 'map')} of what the model rightly "
            f"found, {LEAST_MAPS} are needed; the gate's own limits hold.",
        )
    tables = {each: _table(good, each) for each in (name, *CONTROLS)}
    limits = [
        _limit(measure, tables, name)
        for measure in HIGHER_IS_BETTER
        if np.isfinite(tables[name][measure]).sum() >= LEAST_MAPS
    ]
    passes = {each: _passing(table, limits) for each, table in tables.items()}
    return GateFigures(
        limits=tuple(limits),
        good=len(good),
        good_passed=float(passes[name].mean()),
        controls_stopped={each: float(1 - passes[each].mean()) for each in CONTROLS},
    )


def _is_good(record: CaseRecord) -> bool:
    return record.is_found and record.truth.get(record.target, True)


def _table(records: Sequence[CaseRecord], name: str) -> dict[str, NDArray[np.float64]]:
    """Return measure to its values, NaN where there is none, [N]."""
    maps = [record.map_of(name) for record in records]
    return {
        measure: np.array(
            [np.nan if each is None else each.measures.get(measure, np.nan) for each in maps]
        )
        for measure in HIGHER_IS_BETTER
    }


def _limit(measure: str, tables: dict[str, dict[str, NDArray[np.float64]]], name: str) -> Limit:
    higher = HIGHER_IS_BETTER[measure]
    sign = 1.0 if higher else -1.0
    own = tables[name][measure]
    # Of few maps their very worst: between two of them no limit is drawn.
    kept = sign * float(np.nanquantile(sign * own, STOPPED, method="lower"))
    middles = [
        float(np.nanmedian(tables[each][measure]))
        for each in CONTROLS
        if np.isfinite(tables[each][measure]).any()
    ]
    below = [middle for middle in middles if sign * middle < sign * kept]
    nearest = max(below, key=lambda middle: sign * middle) if below else kept
    # Rounded towards what lets more pass.
    rounded = np.floor(sign * (kept + nearest) / 2 * 1000) / 1000 * sign
    limit = float(rounded) + 0.0
    return Limit(
        measure=measure,
        limit=limit,
        kept=kept,
        good_passed=float(_keeps(own, limit, higher=higher).mean()),
        controls_stopped={
            each: float(1 - _keeps(tables[each][measure], limit, higher=higher).mean())
            for each in CONTROLS
        },
    )


def _keeps(values: NDArray[np.float64], limit: float, *, higher: bool) -> NDArray[np.bool_]:
    """Return whether each value keeps the limit; one that is not known does."""
    kept = values >= limit if higher else values <= limit
    return np.asarray(kept | np.isnan(values), np.bool_)


def _passing(table: dict[str, NDArray[np.float64]], limits: Sequence[Limit]) -> NDArray[np.bool_]:
    kept = [
        _keeps(table[each.measure], each.limit, higher=HIGHER_IS_BETTER[each.measure])
        for each in limits
    ]
    return np.asarray(np.logical_and.reduce(kept), np.bool_)
