"""What is done about which error."""

import errno
import subprocess
import sys

import pytest

from ai.errors import ModelUnavailableError, UnsuitableInputError
from dicom_io.errors import EncodingError, UnevenSpacingError
from node.errors import (
    ATTEMPTS,
    ConfigError,
    Decision,
    class_names,
    decide,
    decide_by_name,
    retry_delay_seconds,
    state_after,
)
from node.task import TRANSITIONS, State


@pytest.mark.parametrize(
    ("error", "decision"),
    [
        (UnevenSpacingError("gap"), Decision.REJECT),
        (UnsuitableInputError("child"), Decision.REJECT),
        (MemoryError(), Decision.RETRY),
        (ConnectionResetError(), Decision.RETRY),
        (BlockingIOError(errno.EAGAIN, "no process left"), Decision.RETRY),
        (OSError(errno.ENOSPC, "No space left on device"), Decision.RETRY),
        (ModelUnavailableError("hash"), Decision.PARK),
        (ConfigError("key"), Decision.PARK),
        (EncodingError("tag"), Decision.FAIL),
        (ZeroDivisionError(), Decision.FAIL),
        (KeyboardInterrupt(), Decision.FAIL),
    ],
)
def test_an_error_is_decided_by_its_nearest_listed_class(error, decision):
    assert decide(error) is decision
    assert decide_by_name(class_names(error)) is decision


def test_torch_out_of_memory_is_retried_without_importing_torch():
    program = (
        "import sys, node.errors as e;"
        "print(e.decide_by_name(('OutOfMemoryError', 'RuntimeError')), 'torch' in sys.modules)"
    )

    answer = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )

    assert answer.stdout.split() == ["retry", "False"]


def test_a_retryable_error_parks_the_task_when_its_attempts_are_used_up():
    states = [state_after(Decision.RETRY, attempt) for attempt in range(1, ATTEMPTS + 1)]

    assert states == [State.READY] * (ATTEMPTS - 1) + [State.PARKED]


@pytest.mark.parametrize("decision", Decision)
@pytest.mark.parametrize("attempt", [1, ATTEMPTS])
def test_every_decision_is_a_permitted_change(decision, attempt):
    assert (State.RUNNING, state_after(decision, attempt)) in TRANSITIONS


def test_the_pause_doubles_up_to_its_cap_and_spreads_by_a_quarter():
    pauses = [retry_delay_seconds(n, base=1, cap=10, jitter=0.0) for n in range(6)]

    assert pauses == [1, 2, 4, 8, 10, 10]
    assert retry_delay_seconds(1000, base=1, cap=10, jitter=1.0) == 12.5
