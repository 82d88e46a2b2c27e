"""What a route allows becomes what an analysis asks: passes, memory, time."""

import os

from node.budget import analyze_settings
from node.config import BudgetSettings


def made(budget, **options):
    return analyze_settings(budget, report=lambda _done, _total: None, **options)


def test_passes_memory_and_the_wish_to_stop_are_handed_on():
    wish = [False]

    settings = made(BudgetSettings(forwards=200, memory_gb=1.5), cancelled=lambda: wish[0])

    assert settings.budget.forwards == 200
    assert settings.limits.memory_bytes == 1_500_000_000
    assert not settings.budget.cancelled()
    wish[0] = True
    assert settings.budget.cancelled()


def test_the_time_is_over_so_many_minutes_after_the_start():
    now = [1000.0]
    settings = made(BudgetSettings(minutes=2.0), clock=lambda: now[0])

    now[0] = 1119.9
    before = settings.limits.time_is_up()
    now[0] = 1120.0

    assert (before, settings.limits.time_is_up()) == (False, True)


def test_without_minutes_the_time_is_never_over():
    settings = made(BudgetSettings(minutes=None), clock=lambda: 1e12)

    assert not settings.limits.time_is_up()


def test_unless_said_otherwise_an_explanation_leaves_memory_to_others():
    whole = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")

    assert 0 < made(BudgetSettings()).limits.memory_bytes < whole
