"""Children that end are started again, and end when they are told to."""

import functools
import logging
import time
from multiprocessing import get_context

from node.supervise import Supervised, wait_for_change
from tests.wait import until


def started(seconds: float):
    process = get_context("spawn").Process(target=time.sleep, args=(seconds,), daemon=True)
    process.start()
    return process


def test_killed_child_is_taken_note_of_and_started_again(caplog):
    deaths: list[str] = []
    first = started(60.0)
    start = functools.partial(started, 60.0)
    child = Supervised("worker 0", start, running=first, ended=lambda: deaths.append("death"))

    with caplog.at_level(logging.WARNING):
        first.kill()
        wait_for_change([child], 10.0)
        until(lambda: child.look() or child.process is None, seconds=10.0)
        until(lambda: child.look() or child.process is not None, seconds=10.0)
        child.look()

    assert child.process is not first
    assert child.process.is_alive()
    assert deaths == ["death"]
    (record,) = caplog.records
    assert (record.child, record.exit_code, record.restart_in_s) == ("worker 0", -9, 0.5)
    child.terminate()
    child.join(time.monotonic() + 5.0)
    assert child.process is None


def test_child_that_lives_is_left_alone():
    process = started(60.0)
    child = Supervised("worker 0", lambda: started(60.0), running=process)

    child.look()

    assert child.process is process
    child.terminate()
    child.join(time.monotonic() + 5.0)


def test_child_that_does_not_end_in_time_is_killed():
    process = started(60.0)
    child = Supervised("worker 0", lambda: started(60.0), running=process)

    child.join(time.monotonic())

    assert child.process is None


def test_pauses_between_restarts_grow(caplog):
    child = Supervised("worker 0", lambda: started(0.0), running=started(0.0))

    with caplog.at_level(logging.WARNING):
        until(lambda: child.look() or len(caplog.records) >= 3, seconds=60.0)

    assert [record.restart_in_s for record in caplog.records] == [0.5, 1.0, 2.0]
    child.join(time.monotonic())


def test_child_that_cannot_be_started_is_tried_again_later(caplog):
    def start():
        raise OSError(11, "no process left")

    first = started(60.0)
    child = Supervised("worker 0", start, running=first)
    first.kill()

    with caplog.at_level(logging.WARNING):
        until(lambda: child.look() or len(caplog.records) >= 2, seconds=10.0)

    assert caplog.records[-1].event == "process_not_started"
    child.join(time.monotonic())
