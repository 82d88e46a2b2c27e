"""``retry``, ``cancel``, ``dismiss``, ``quarantine``: what a person decides about work."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

from node.commands.options import Retriable
from node.commands.output import MisuseError, counted
from node.config import Config
from node.errors import TransitionError
from node.ledger import decisions, outbox, studies, tasks
from node.ledger.engine import open_ledger
from node.task import StudyState


def retry(config: Config, kind: Retriable, which: str, now: datetime) -> str:
    """Have a task that waits for a person, or a delivery that is still owed, tried again now.

    Parameters
    ----------
    which
        Number of the task or delivery; name of the destination whose parked deliveries are meant.

    Returns
    -------
    str
        What is tried again, in words.

    Raises
    ------
    MisuseError
        There is none of that number or name; the task waits for no person; the delivery is
        delivered.
    """
    engine = open_ledger(config.node.database)
    if kind is Retriable.DESTINATION:
        count = outbox.release_parked(engine, which, now)
        if count == 0:
            raise MisuseError(f"no delivery to {which!r} is parked")
        return f"{counted(count, 'object')} owed to {which}"
    number = _number(which)
    if kind is Retriable.TASK:
        with _misuse():
            tasks.retry(engine, number, now)
    elif not outbox.release(engine, number, now):
        raise MisuseError(
            f"delivery {number} is delivered already, or does not exist, or was withdrawn"
        )
    return f"{kind} {which}"


def cancel(config: Config, which: str, reason: str, now: datetime) -> str:
    """Cancel a task, or all of a study that are ready or running; return what, in words.

    Raises
    ------
    MisuseError
        There is no such task or study, or nothing of it is to be done.
    """
    engine = open_ledger(config.node.database)
    if which.isdecimal():
        with _misuse():
            decisions.cancel_task(engine, int(which), reason=reason, now=now)
        return f"task {which} is cancelled"
    stands = studies.state(engine, which)
    if stands is None:
        raise MisuseError(f"{which!r} is no task and no study that was received")
    count = decisions.cancel_study(engine, which, reason=reason, now=now)
    arriving = "; it is still arriving: tasks may follow" if stands is StudyState.RECEIVING else ""
    if count == 0:
        raise MisuseError(f"study {which} has no task that is ready or running{arriving}")
    return f"{counted(count, 'task')} of study {which} cancelled{arriving}"


def dismiss(config: Config, kind: Retriable, which: str, reason: str, now: datetime) -> str:
    """Give up what waits for a person; return what, in words.

    Raises
    ------
    MisuseError
        There is none of that number or name that waits for a person.
    """
    engine = open_ledger(config.node.database)
    _require_reason(reason)
    if kind is Retriable.TASK:
        with _misuse():
            decisions.dismiss_task(engine, _number(which), reason=reason, now=now)
        return f"task {which}"
    if kind is Retriable.DELIVERY:
        number = _number(which)
        count = decisions.dismiss_deliveries(engine, delivery_id=number, reason=reason, now=now)
    else:
        count = decisions.dismiss_deliveries(engine, destination=which, reason=reason, now=now)
    if count == 0:
        raise MisuseError(f"{kind} {which}: nothing is parked or refused")
    return f"{counted(count, 'object')} owed to {which}" if count > 1 else f"{kind} {which}"


def set_aside(config: Config) -> list[dict[str, object]]:
    """Return one row for each study and task that is quarantined."""
    engine = open_ledger(config.node.database)
    return [
        {
            "kind": each.kind,
            "id": each.id,
            "study": each.study_instance_uid,
            "route": each.route,
            "since": each.since.isoformat(timespec="seconds"),
            "reason": each.reason,
            "kept_apart": each.apart or "",
        }
        for each in decisions.set_aside(engine)
    ]


def release(config: Config, which: str, reason: str, now: datetime) -> str:
    """End the quarantine of a task or a study; return what follows, in words.

    Raises
    ------
    MisuseError
        It is not quarantined, or no reason is given.
    """
    engine = open_ledger(config.node.database)
    _require_reason(reason)
    if which.isdecimal():
        with _misuse():
            decisions.release_task(engine, int(which), reason=reason, now=now)
        return f"task {which} is tried again by the running node, or by the next one"
    apart = sum(each.apart for each in decisions.set_aside(engine) if each.id == which)
    with _misuse():
        again = decisions.release_study(engine, which, reason=reason, now=now)
    return (
        f"study {which} goes on with what came first; {counted(apart, 'instance')} of another "
        f"patient or study stay apart; begun anew: {counted(len(again), 'task')}"
    )


def _require_reason(reason: str) -> None:
    if not reason.strip():
        raise MisuseError("the reason is empty; the audit keeps it, so say why")


def _number(which: str) -> int:
    if not which.isdecimal():
        raise MisuseError(f"{which!r} is no number; status tells the id of each")
    return int(which)


@contextmanager
def _misuse() -> Iterator[None]:
    """Tell what the ledger does not allow as asked in a wrong way."""
    try:
        yield
    except TransitionError as error:
        raise MisuseError(str(error)) from error
