"""What explaining may cost, as an analysis wants it said: passes, memory and the time it has."""

import os
import time
from collections.abc import Callable

from ai.analyze import AnalyzeSettings
from ai.limits import Limits
from ai.model import Budget
from node.config import BudgetSettings

#: Of the machine's memory, what one explanation may be estimated to take where nothing is said.
_SHARE_OF_MEMORY = 0.75


def analyze_settings(
    budget: BudgetSettings,
    *,
    report: Callable[[int, int], None],
    cancelled: Callable[[], bool] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> AnalyzeSettings:
    """Return the settings of an analysis whose time begins now.

    Parameters
    ----------
    report, cancelled
        As of ``ai.model.Budget``.
    clock
        Seconds, never set back.
    """
    expired = None
    if budget.minutes is not None:
        end = clock() + 60.0 * budget.minutes

        def expired() -> bool:
            return clock() >= end

    return AnalyzeSettings(
        budget=Budget(forwards=budget.forwards, report=report, cancelled=cancelled),
        limits=Limits(memory_bytes=_memory_bytes(budget), expired=expired),
    )


def _memory_bytes(budget: BudgetSettings) -> int:
    if budget.memory_gb is not None:
        return int(budget.memory_gb * 1e9)
    return int(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") * _SHARE_OF_MEMORY)
