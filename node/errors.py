"""The node's own errors, and the one table that says what to do about any error."""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from types import MappingProxyType

from node.task import State


class ConfigError(ValueError):
    """The configuration is wrong; the message tells file, key and what was expected."""


class LedgerError(RuntimeError):
    """The ledger cannot be opened, or is of another version than this program."""


class StorageFullError(OSError):
    """The store has no room, or less than its floor; nothing was written."""


class PortInUseError(OSError):
    """Another program listens where this node is told to listen."""


class TransitionError(RuntimeError):
    """A task cannot go from where it stands to where it was told to go."""


class DeliveryRefusedError(RuntimeError):
    """A destination answered a C-STORE with a temporary refusal (0xA7xx)."""


class Decision(StrEnum):
    """What happens to a task whose work ended in an error."""

    #: Recorded, not retried; the input is at fault.
    REJECT = "reject"
    #: Again after a pause; parked when the attempts are used up.
    RETRY = "retry"
    #: A person must act first.
    PARK = "park"
    #: A mistake of ours; kept with its traceback.
    FAIL = "fail"


#: Class name to decision. Names instead of classes: this module may not import torch, and the
#: inference child tells its errors over a pipe. The nearest class in the inheritance order decides.
DECISIONS: Mapping[str, Decision] = MappingProxyType(
    {
        "DicomInputError": Decision.REJECT,
        "UnsuitableInputError": Decision.REJECT,
        "OutOfMemoryError": Decision.RETRY,
        "MemoryError": Decision.RETRY,
        # The machine or the network: disk full, no process left, a file or a peer out of reach.
        "OSError": Decision.RETRY,
        "DeliveryRefusedError": Decision.RETRY,
        "OperationalError": Decision.RETRY,
        "ModelUnavailableError": Decision.PARK,
        "ReliabilityError": Decision.PARK,
        "ConfigError": Decision.PARK,
        "EncodingError": Decision.FAIL,
    }
)

#: Claims of one task before a retryable error parks it.
ATTEMPTS = 5


def decide(error: BaseException) -> Decision:
    """Return what to do about ``error``; whatever no one listed is a mistake of ours: FAIL."""
    return decide_by_name(class_names(error))


def class_names(error: BaseException) -> tuple[str, ...]:
    """Return the names of the error's classes, its own first: all that ``decide`` looks at."""
    return tuple(cls.__name__ for cls in type(error).__mro__)


def decide_by_name(names: Sequence[str]) -> Decision:
    """Return what to do about an error told by its ``class_names`` over a pipe."""
    return next((DECISIONS[name] for name in names if name in DECISIONS), Decision.FAIL)


def state_after(decision: Decision, attempt: int) -> State:
    """Return the state of a running task after an error; ``attempt`` counts from 1."""
    if decision is Decision.RETRY:
        return State.READY if attempt < ATTEMPTS else State.PARKED
    return {
        Decision.REJECT: State.REJECTED,
        Decision.PARK: State.PARKED,
        Decision.FAIL: State.FAILED,
    }[decision]


def retry_delay_seconds(attempt: int, *, base: float, cap: float, jitter: float) -> float:
    """Return the pause before the next try: ``min(cap, base * 2 ** attempt)`` and up to a quarter.

    Parameters
    ----------
    attempt
        Tries so far.
    base, cap
        First pause before doubling, and the longest one, in seconds.
    jitter
        A random number in [0, 1) from the caller, so that tries spread.
    """
    pause = min(cap, base * 2.0 ** min(attempt, 63))
    return pause * (1.0 + 0.25 * jitter)
