"""The clock: sweeps come again, none waits for another, and the end is an end."""

import threading
import time

from node.clock import Clock
from tests.wait import until


def test_a_sweep_comes_again_while_another_one_lasts():
    clock, go_on, turns = Clock(), threading.Event(), []

    clock.repeat(go_on.wait, every_seconds=60.0)
    clock.repeat(lambda: turns.append("turn"), every_seconds=0.001)
    until(lambda: len(turns) >= 3, seconds=10.0)
    go_on.set()
    clock.stop()
    stopped_at = len(turns)

    assert len(turns) == stopped_at


def test_no_sweep_begins_before_its_first_pause_is_over():
    clock, turns = Clock(), []

    clock.repeat(lambda: turns.append("turn"), every_seconds=0.001, after_seconds=3600.0)
    clock.stop()

    assert turns == []


def test_sweeps_go_on_when_the_machines_clock_is_set_back():
    # A clock that was set back by an hour leaves every job an hour in the future.
    steps, turns = [0.0], []
    clock = Clock(lambda: time.time() + steps[0])
    clock.repeat(lambda: turns.append("turn"), every_seconds=3600.0, after_seconds=3600.0)

    steps[0] = -3600.0
    until(lambda: len(turns) >= 1, seconds=10.0)
    clock.stop()

    assert turns == ["turn"]
