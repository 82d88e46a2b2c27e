"""How names and numbers are written on the card."""

import math

from ai.card.cases import CONTROLS
from ai.quality.intervals import Interval
from dicom_io.codes import method_name


def shown_name(name: str) -> str:
    """Return what a person calls a candidate or a control: ``LayerCAM, depth=0.75``."""
    if name in CONTROLS:
        return f"control: {name}"
    method, _, parameters = name.partition(":")
    return f"{method_name(method)}, {parameters}" if parameters else method_name(method)


def interval_text(interval: Interval | None, decimals: int = 2) -> str:
    """Return a figure with its 95 % interval: ``0.58 (0.52 to 0.63)``; a dash if there is none."""
    if interval is None:
        return "-"
    estimate = f"{interval.estimate:.{decimals}f}"
    if math.isnan(interval.low):
        return estimate
    return f"{estimate} ({interval.low:.{decimals}f} to {interval.high:.{decimals}f})"


def percent_text(interval: Interval) -> str:
    """Return a share with its 95 % interval in percent."""
    return f"{interval.estimate:.0%} ({interval.low:.0%} to {interval.high:.0%})"


def counted(count: int, thing: str) -> str:
    """Return a number of things: ``1 case``, ``2 cases``."""
    return f"{count} {thing}" if count == 1 else f"{count} {thing}s"


def seconds_text(seconds: float) -> str:
    """Return a time in the unit that fits it."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    return f"{seconds:.1f} s" if seconds < 120 else f"{seconds / 60:.1f} min"
