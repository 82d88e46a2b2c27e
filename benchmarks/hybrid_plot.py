"""What an explanation by construction costs and buys, as one picture: docs/hybrids.png.

    python -m benchmarks.hybrid_plot

Draws benchmarks/results/hybrids.json, which ``make bench-hybrids`` writes.
"""

import argparse
import json
from pathlib import Path

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.hybrids import RESULTS

_BLACK, _EVIDENCE, _MUTED = "#7d8790", "#0b5fa5", "#5c6773"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.hybrid_plot", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--json", type=Path, default=RESULTS, help="to draw (%(default)s)")
    parser.add_argument("--out", type=Path, default=Path("docs/hybrids.png"), help="(%(default)s)")
    asked = parser.parse_args()
    figures = json.loads(asked.json.read_text(encoding="utf-8"))
    with rc_context({"axes.spines.top": False, "axes.spines.right": False, "font.size": 9.5}):
        figure = Figure(figsize=(10, 4.2), layout="constrained")
        left, right = figure.subplots(1, 2)
        draw_trade(left, figures)
        draw_labels(right, figures)
        figure.savefig(asked.out, dpi=110)
    print(f"wrote {asked.out}")


def draw_trade(axes: Axes, figures: dict) -> None:
    """Draw every map by how well its network decides, and how much of the map is on the lesion."""
    for arm in figures["arms"].values():
        color = _EVIDENCE if arm["hybrid"] else _BLACK
        written = -1.0
        for name, each in sorted(arm["maps"].items(), key=lambda item: item[1]["mass_accuracy"]):
            mass, (low, high) = each["mass_accuracy"], each["mass_95"]
            error = [[mass - low], [high - mass]]
            axes.errorbar(arm["auc"], mass, error, fmt="o", color=color, ms=5, lw=1)
            # Names of maps that lie close together are moved apart.
            written = max(mass, written + 0.035)
            label = str(arm["annotated"]) if arm["hybrid"] else name
            place = (arm["auc"], high) if arm["hybrid"] else (arm["auc"], written)
            offset = (-3, 3) if arm["hybrid"] else (7, -3)
            axes.annotate(label, place, offset, textcoords="offset points", color=color, size=8)
    control = max(each["mass_accuracy"] for each in figures["controls"].values())
    axes.axhline(control, color=_MUTED, lw=0.8, ls=":")
    axes.annotate(
        "best map without a network",
        (0.02, control),
        xycoords=("axes fraction", "data"),
        xytext=(0, 3),
        textcoords="offset points",
        color=_MUTED,
        size=8,
    )
    axes.margins(x=0.35)
    axes.set_xlabel("area under the ROC curve: lesion or none")
    axes.set_ylabel("share of the relevance on the lesion")
    axes.set_title(
        "black box by method (gray), evidence head by outlined cases (blue)", loc="left", size=10
    )


def draw_labels(axes: Axes, figures: dict) -> None:
    """Draw what outlines of a few training cases buy."""
    arms = sorted(
        (arm for arm in figures["arms"].values() if arm["hybrid"]), key=lambda arm: arm["annotated"]
    )
    places = range(len(arms))
    maps = [arm["maps"]["evidence"] for arm in arms]
    mass = [each["mass_accuracy"] for each in maps]
    low = [m - each["mass_95"][0] for m, each in zip(mass, maps, strict=True)]
    high = [each["mass_95"][1] - m for m, each in zip(mass, maps, strict=True)]
    axes.errorbar(
        places, mass, [low, high], fmt="o-", color=_EVIDENCE, lw=1.4, label="on the lesion"
    )
    auc = [arm["auc"] for arm in arms]
    below = [area - arm["auc_95"][0] for area, arm in zip(auc, arms, strict=True)]
    above = [arm["auc_95"][1] - area for area, arm in zip(auc, arms, strict=True)]
    axes.errorbar(places, auc, [below, above], fmt="s--", color=_BLACK, lw=1.2, label="AUC")
    axes.set_xticks(list(places), [str(arm["annotated"]) for arm in arms])
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("training cases whose lesion was outlined")
    axes.set_title("what outlines of a few cases buy", loc="left", size=10)
    axes.legend(frameon=False, loc="lower right")


if __name__ == "__main__":
    main()
