"""Plots of what the model says: reliability diagram, ROC curve, overlap with the truth."""

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes

from ai.card.diagnosis import Calibration, LabelDiagnosis
from ai.card.plotting import ACCENT, FAINT, INK, MUTED, WARM, as_svg, drawn, styled
from ai.quality.intervals import Interval
from ai.reliability.calibration import Bin


@styled
def reliability_plot(calibration: Calibration) -> str:
    """Return the reliability diagram before and after scaling, as SVG."""
    figure, (axes,) = drawn(4.3, 4.0)
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)))
    axes.text(0.62, 0.545, "perfectly honest", color=MUTED, rotation=44, fontsize=7.5)
    most = max(each.count for each in calibration.after)
    for each in calibration.after:
        width = each.high - each.low
        height = 0.16 * each.count / most
        axes.bar(each.low, height, width, align="edge", color=FAINT, edgecolor="white")
        if each.count:
            middle = (each.low + each.high) / 2
            axes.text(
                middle, height + 0.01, str(each.count), ha="center", fontsize=6.5, color=MUTED
            )
    _points(axes, calibration.before, WARM, "o", f"before, error {calibration.error_before:.1%}")
    _points(axes, calibration.after, ACCENT, "D", f"after, error {calibration.error_after:.1%}")
    axes.set(
        xlim=(0, 1), ylim=(0, 1.02), xlabel="claimed probability", ylabel="share that came true"
    )
    axes.grid(visible=True)
    axes.legend(loc="upper left")
    return as_svg(figure, "reliability")


def _points(axes: Axes, bins: Sequence[Bin], color: str, marker: str, label: str) -> None:
    filled = [each for each in bins if each.count]
    axes.plot(
        [each.confidence for each in filled],
        [each.frequency for each in filled],
        color=color,
        marker=marker,
        markersize=5,
        linewidth=1.3,
        label=label,
        markerfacecolor="white" if marker == "o" else color,
    )


@styled
def roc_plot(diagnosis: LabelDiagnosis, number: int) -> str:
    """Return the ROC curve with its band and the operating point, as SVG."""
    figure, (axes,) = drawn(4.3, 4.0)
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)))
    grid, low, high = diagnosis.band
    axes.fill_between(grid, low, high, color=ACCENT, alpha=0.16, linewidth=0, step="post")
    axes.plot(
        diagnosis.false_positive_rate, diagnosis.true_positive_rate, color=ACCENT, linewidth=1.6
    )
    sensitivity, specificity = diagnosis.sensitivity, diagnosis.specificity
    axes.errorbar(
        [1 - specificity.estimate],
        [sensitivity.estimate],
        xerr=[[specificity.high - specificity.estimate], [specificity.estimate - specificity.low]],
        yerr=[[sensitivity.estimate - sensitivity.low], [sensitivity.high - sensitivity.estimate]],
        color=WARM,
        marker="o",
        markersize=5.5,
        capsize=2.5,
        linewidth=1.1,
        label=f"operating point {diagnosis.threshold:g}",
    )
    axes.text(
        0.97,
        0.20,
        f"area {diagnosis.area.estimate:.3f}\n"
        f"({diagnosis.area.low:.3f} to {diagnosis.area.high:.3f})",
        ha="right",
        color=INK,
    )
    axes.set(
        xlim=(-0.01, 1), ylim=(0, 1.02), xlabel="1 - specificity", ylabel="sensitivity",
    )  # fmt: skip
    axes.grid(visible=True)
    axes.legend(loc="lower right")
    return as_svg(figure, f"roc{number}")


@styled
def overlap_plot(overlaps: Mapping[str, Interval]) -> str:
    """Return the overlap of each label with the truth, as SVG."""
    figure, (axes,) = drawn(7.2, 0.9 + 0.28 * len(overlaps))
    for place, (name, interval) in enumerate(overlaps.items()):
        axes.plot([interval.low, interval.high], [place, place], color=ACCENT, linewidth=2)
        axes.plot(interval.estimate, place, color=ACCENT, marker="o", markersize=6)
        axes.text(-0.02, place, name, ha="right", va="center")
    axes.set(xlim=(0, 1), ylim=(len(overlaps) - 0.5, -0.5), yticks=[], xlabel="overlap (Dice)")
    axes.grid(visible=True, axis="x")
    axes.spines["left"].set_visible(False)
    return as_svg(figure, "overlap")
