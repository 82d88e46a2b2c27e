"""Plots of what the explainers are worth, each beside maps that know nothing of the model."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from ai.card.cases import CONTROLS
from ai.card.figures import CurveFigures, ExplainerFigures
from ai.card.gate_limits import HIGHER_IS_BETTER, GateFigures
from ai.card.plotting import CONTROL, DASHES, INK, MUTED, WARM, as_svg, color_of, drawn, styled
from ai.card.records import CaseRecord
from ai.card.words import shown_name

_TITLES = {
    "mass": "relevance in the truth",
    "rank": "top voxels in the truth",
    "pointing": "peak in the truth",
    "iou": "outline against truth (IoU)",
    "comprehensiveness": "comprehensiveness",
    "specificity": "specificity",
    "sufficiency": "sufficiency",
    "stability": "stability under noise",
    "gini": "compactness (Gini)",
    "plausibility": "relevance in the body",
    "edges": "likeness to edges",
    "intensity": "likeness to brightness",
}


@styled
def forest_plot(
    figures: Sequence[ExplainerFigures], measures: Sequence[str], *, name: str
) -> str | None:
    """Return dots with 95 % intervals, a panel for each measure; None if there is nothing."""
    shown = [each for each in figures if each.measures]
    there = [m for m in measures if any(m in each.measures for each in shown)]
    if not there:
        return None
    figure, panels = drawn(2.3 + 1.75 * len(there), 0.75 + 0.27 * len(shown), len(there))
    methods = [each.name for each in figures if not each.is_control]
    for number, (axes, measure) in enumerate(zip(panels, there, strict=True)):
        for place, each in enumerate(shown):
            _interval(axes, place, each, measure, color_of(each.name, methods))
        axes.set_title(_TITLES[measure], loc="left", fontsize=8.5)
        axes.set(ylim=(len(shown) - 0.4, -0.6))
        labels = [shown_name(each.name) for each in shown] if number == 0 else []
        axes.set_yticks(range(len(shown)) if number == 0 else [], labels)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.grid(visible=True, axis="x")
        low, high = axes.get_xlim()
        axes.set_xlim(min(low, -0.02), max(high, 1.02))
        axes.axvline(0, color=MUTED, linewidth=0.8)
    return as_svg(figure, name)


def _interval(axes: Axes, place: int, each: ExplainerFigures, measure: str, color: str) -> None:
    interval = each.measures.get(measure)
    if interval is None:
        axes.text(0.02, place, "not measured", color=MUTED, fontsize=7, va="center")
        return
    axes.plot([interval.low, interval.high], [place, place], color=color, linewidth=2.2, alpha=0.7)
    marker = "s" if each.is_control else "o"
    axes.plot(
        interval.estimate, place, marker=marker, color=color, markersize=5.5,
        markerfacecolor="white" if each.is_control else color,
    )  # fmt: skip


@styled
def curves_plot(figures: Sequence[ExplainerFigures]) -> str | None:
    """Return the mean curves of insertion and deletion with their bands, as SVG."""
    drawn_ones = [each for each in figures if each.insertion and each.deletion]
    if not drawn_ones:
        return None
    figure, (left, right) = drawn(9.2, 3.9, 2, sharey=True)
    methods = [each.name for each in figures if not each.is_control]
    for each in drawn_ones:
        color = color_of(each.name, methods)
        for axes, curve in ((left, each.insertion), (right, each.deletion)):
            if curve is not None:
                _curve(axes, curve, each, color)
    left.set(
        title="Insertion: the most relevant voxels come first",
        xlabel="share of the image shown",
        ylabel="target (0 blurred image, 1 image)",
    )
    right.set(
        title="Deletion: the most relevant voxels go first", xlabel="share of the image blurred"
    )
    for axes in (left, right):
        axes.grid(visible=True)
        axes.axhline(0, color=MUTED, linewidth=0.8)
        axes.axhline(1, color=MUTED, linewidth=0.8)
        axes.set_xlim(0, 1)
    right.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
    return as_svg(figure, "curves")


def _curve(axes: Axes, curve: CurveFigures, each: ExplainerFigures, color: str) -> None:
    axes.plot(
        curve.shares,
        curve.mean,
        color=color,
        linewidth=1.2 if each.is_control else 1.8,
        linestyle=DASHES.get(each.name, "-"),
        label=shown_name(each.name),
    )
    if not each.is_control:
        axes.fill_between(curve.shares, curve.low, curve.high, color=color, alpha=0.12, linewidth=0)


@styled
def forgetting_plot(figures: Sequence[ExplainerFigures]) -> str | None:
    """Return how alike the maps remain while the network forgets, as SVG."""
    asked = [each for each in figures if each.randomization]
    if not asked:
        return None
    figure, (axes,) = drawn(7.2, 3.5)
    methods = [each.name for each in figures if not each.is_control]
    axes.axhline(1, color=CONTROL, linestyle=(0, (5, 2)), linewidth=1.2, label="every control")
    for each in asked:
        if each.randomization is None:
            continue
        similarity = each.randomization.similarity
        shares = np.linspace(0, 1, len(similarity))
        axes.plot(
            shares, similarity, marker="o", markersize=4, linewidth=1.7,
            color=color_of(each.name, methods), label=shown_name(each.name),
        )  # fmt: skip
    axes.axhline(0, color=MUTED, linewidth=0.8)
    axes.set(
        xlabel="share of the layers that forgot, from the first on",
        ylabel="likeness to the map before\n(rank correlation)",
        xlim=(0, 1.01),
    )
    axes.xaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
    axes.grid(visible=True)
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
    return as_svg(figure, "forgetting")


@styled
def gate_plot(records: Sequence[CaseRecord], gate: GateFigures, name: str) -> str | None:
    """Return where the good maps lie, where the controls do, and the limit between, as SVG."""
    if not gate.limits:
        return None
    figure, panels = drawn(1.5 + 1.75 * len(gate.limits), 2.3, len(gate.limits))
    rows = (name, *CONTROLS)
    shift = np.random.default_rng(0).uniform(-0.22, 0.22, len(records))
    for number, (axes, limit) in enumerate(zip(panels, gate.limits, strict=True)):
        higher = HIGHER_IS_BETTER[limit.measure]
        for place, row in enumerate(rows):
            maps = [record.map_of(row) for record in records]
            points = [
                (each.measures[limit.measure], place + shift[index])
                for index, each in enumerate(maps)
                if each is not None and limit.measure in each.measures
            ]
            color = color_of(row, (name,))
            axes.plot(*zip(*points, strict=True), ".", markersize=3.5, color=color, alpha=0.6)
        axes.axvline(limit.limit, color=WARM, linewidth=1.4)
        sign = "≥" if higher else "≤"
        axes.set_title(
            f"{_TITLES[limit.measure]}\n{sign} {limit.limit:.3f}", loc="left", fontsize=8
        )
        axes.set(ylim=(len(rows) - 0.4, -0.6))
        labels = [shown_name(each) for each in rows] if number == 0 else []
        axes.set_yticks(range(len(rows)) if number == 0 else [], labels)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.grid(visible=True, axis="x", color="#eceff2")
        axes.tick_params(axis="x", labelcolor=INK)
    return as_svg(figure, "gate")
