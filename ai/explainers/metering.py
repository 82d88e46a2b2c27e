"""Spending a budget: how many passes are left, who is told, and how many fit into memory."""

from dataclasses import dataclass

from torch import Tensor, nn

from ai.explainers.layout import reduced_layout_of
from ai.model import Budget

#: Bytes of activations per byte of input, where a network's maps cannot be listed.
_GUESSED_GROWTH = 300
#: Maps that are alive at once on top of those that are listed: work space of the operations.
_WORK_SPACE = 2


class Meter:
    """Counts the forward passes of one explanation against its budget.

    Parameters
    ----------
    budget
        Limit, progress and cancellation; None for none of them.
    expected
        How many passes the method would like to spend, for the progress report.
    """

    def __init__(self, budget: Budget | None, expected: int) -> None:
        self._budget = budget or Budget()
        self._limit = self._budget.forwards
        self._expected = expected
        #: Forward passes so far.
        self.spent = 0

    @property
    def cancelled(self) -> bool:
        """Whether the caller wants the work to end."""
        return self._budget.cancelled is not None and self._budget.cancelled()

    def allot(self, shares: int) -> None:
        """Allow one of so many equal shares of what the budget has left, until the next call.

        So the first entry of a batch does not spend what the others need.
        """
        if self._budget.forwards is not None:
            self._limit = self.spent + (self._budget.forwards - self.spent) // shares

    def affords(self, passes: int) -> bool:
        """Return whether so many more passes are within the budget."""
        return self._limit is None or self.spent + passes <= self._limit

    def granted(self, passes: int) -> int:
        """Return how many of so many more passes budget and caller allow."""
        if self.cancelled:
            return 0
        return passes if self._limit is None else max(0, min(passes, self._limit - self.spent))

    def spend(self, passes: int) -> None:
        """Count passes that were made, and report."""
        self.spent += passes
        if self._budget.report is not None:
            self._budget.report(self.spent, max(self._expected, self.spent))

    def finish(self) -> None:
        """Report that nothing more will be spent, if the last report left that open."""
        if self._budget.report is not None and self.spent < self._expected:
            self._budget.report(self.spent, self.spent)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """How many copies of one input go through a network at once."""

    #: At least one.
    entries: int
    #: About what the activations of one take.
    entry_bytes: int

    def peak_bytes(self, wanted: int) -> int:
        """Return what the activations take if ``wanted`` copies are due."""
        return min(self.entries, wanted) * self.entry_bytes


def fit_into(memory_bytes: int, network: nn.Module, x: Tensor) -> Fit:
    """Return how many copies of one entry of ``x`` may go through the network at once.

    Parameters
    ----------
    memory_bytes
        What the activations may take; one entry is always allowed.
    network
        Probed on a reduced input for the size of its maps, a few percent of a forward pass that no
        budget counts; a guess serves where it shows none.
    x
        float [B, C, *S].
    """
    maps = reduced_layout_of(network, x).maps
    listed = _WORK_SPACE * sum(each.full_bytes for each in maps)
    needed = listed or x[:1].numel() * x.element_size() * _GUESSED_GROWTH
    return Fit(entries=max(1, memory_bytes // max(1, needed)), entry_bytes=needed)
