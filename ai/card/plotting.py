"""How every plot of the card looks, and how it becomes text that stands in the page itself."""

import io
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK, MUTED, FAINT = "#1d2733", "#5c6773", "#d8dde3"
ACCENT, WARM = "#0b5fa5", "#c4501b"
#: Colors of the methods, told apart also by the color-blind (Okabe and Ito 2008).
METHODS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7a5195", "#8c6d31")
#: Controls are gray, and differ by their dashes.
CONTROL = "#7d8790"
DASHES = {"random": (0, (1, 2)), "sobel": (0, (5, 2)), "intensity": (0, (8, 2, 1, 2))}

_STYLE: Any = {
    "svg.fonttype": "none",
    "font.family": ["DejaVu Sans"],
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "grid.color": FAINT,
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
}
#: The page's own type stands in the place of the one that the plots were measured with.
_FONTS = "font-family: 'DejaVu Sans', Verdana, sans-serif"


_P = ParamSpec("_P")
_T = TypeVar("_T")


def styled(draw: Callable[_P, _T]) -> Callable[_P, _T]:
    """Return a function that draws in the style of the card, and leaves no style behind."""

    @wraps(draw)
    def inside(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        with rc_context(_STYLE):
            return draw(*args, **kwargs)

    return inside


def drawn(
    width: float, height: float, columns: int = 1, *, sharey: bool = False
) -> tuple[Figure, list[Axes]]:
    """Return a figure of so many inches, with its axes side by side."""
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(1, columns, squeeze=False, sharey=sharey)
    return figure, list(axes[0])


def as_svg(figure: Figure, name: str) -> str:
    """Return a figure as an ``svg`` element.

    Parameters
    ----------
    name
        Different for each figure of a page: the identifiers in it depend on that.
    """
    stream = io.StringIO()
    with rc_context({"svg.hashsalt": name, "svg.id": name}):
        figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None})
    text = stream.getvalue()
    return text[text.index("<svg") :].replace("font-family: 'DejaVu Sans'", _FONTS).strip()


def color_of(name: str, methods: Sequence[str]) -> str:
    """Return the color of a method, the same in every plot; that of all controls is gray."""
    return METHODS[methods.index(name) % len(METHODS)] if name in methods else CONTROL
