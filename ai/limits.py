"""What one explanation may take: its estimate held against a limit, and the time that is left."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from ai.errors import BudgetError
from ai.model import Explainer, Needs


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a caller allows beside forward passes, which are the budget's."""

    #: Most memory that an explanation may be estimated to take, in bytes; None for no limit.
    memory_bytes: int | None = None
    #: Asked before and between passes; True: what is being explained ends with what is there, what
    #: is not begun is left out, and findings stay. None for no end.
    expired: Callable[[], bool] | None = None

    def time_is_up(self) -> bool:
        """Return whether nothing more may be begun."""
        return self.expired is not None and self.expired()


#: What a caller allows who says nothing.
UNLIMITED = Limits()


def require_memory(explainer: Explainer, network: nn.Module, x: Tensor, limits: Limits) -> None:
    """Refuse an explanation of ``x`` that would take more memory than allowed, before it runs.

    A method that only runs the network is not asked: one pass at a time, which it may always fall
    back to, takes what the prediction took. Forward passes are not held against the estimate: a
    method that is granted fewer than it would like ends early and says so, or refuses the budget.

    Raises
    ------
    BudgetError
        The estimate is above the limit; the message says both and what to change.
    """
    if limits.memory_bytes is None or getattr(explainer, "needs", None) is Needs.OUTPUT:
        return
    estimate = explainer.estimate_cost(network, x).peak_bytes
    if estimate > limits.memory_bytes:
        raise BudgetError(
            f"it would take about {memory_text(estimate)} of memory, at most "
            f"{memory_text(limits.memory_bytes)} are allowed: {_ways(explainer, limits)}"
        )


def _ways(explainer: Explainer, limits: Limits) -> str:
    """Return what a person may change, as far as this method has it to change."""
    ways = ["allow more"]
    if getattr(explainer, "memory_bytes", 0) > (limits.memory_bytes or 0):
        ways.append("give it less memory_bytes")
    if hasattr(explainer, "layers"):
        ways.append("look at a later layer")
    return ", ".join(ways) + ", or choose a method that takes less"


def refusal_text(error: BudgetError) -> str:
    """Return why a method refused its budget, and what to change."""
    said = str(error)
    advice = ": allow more, or choose a method that takes fewer"
    return said if ": allow more, " in said else said + advice


def memory_text(size_bytes: float) -> str:
    """Return a size of memory in the unit that fits it: ``3.7 GiB``, ``512 MiB``."""
    mib = size_bytes / 2**20
    return f"{mib / 1024:.1f} GiB" if mib >= 1024 else f"{mib:.0f} MiB"
