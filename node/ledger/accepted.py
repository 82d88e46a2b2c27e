"""What each destination was found to take: SOP classes and transfer syntaxes, learnt by asking."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Connection, Engine, delete, insert, select, update

from node.ledger import audit, schema
from node.ledger.engine import reading

_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """What one destination takes, as it was last learnt."""

    #: SOP class to transfer syntaxes; none where it refused the class. It was never asked about a
    #: class that is absent.
    syntaxes: Mapping[str, tuple[str, ...]]
    #: When it was asked; long ago if there is reason to ask it again.
    learnt: datetime

    @property
    def doubted(self) -> bool:
        """Whether it is about to be asked again."""
        return self.learnt <= _LONG_AGO

    def takes(self, sop_class_uid: str, transfer_syntaxes: Collection[str]) -> bool:
        """Return whether it takes the SOP class in one of these, as far as it is known."""
        known = self.syntaxes.get(sop_class_uid)
        return known is None or not set(transfer_syntaxes).isdisjoint(known)


def known(engine: Engine, destinations: Collection[str]) -> dict[str, Accepted]:
    """Return what is known of these destinations; nothing of one that was never reached."""
    table = schema.accepted.c
    query = select(schema.accepted).where(table.destination.in_(destinations))
    syntaxes: dict[str, dict[str, tuple[str, ...]]] = {}
    learnt: dict[str, datetime] = {}
    with reading(engine) as connection:
        for row in connection.execute(query):
            found = syntaxes.setdefault(row.destination, {})
            found[row.sop_class_uid] = tuple(row.transfer_syntaxes)
            learnt[row.destination] = min(row.learnt, learnt.get(row.destination, row.learnt))
    return {name: Accepted(syntaxes=found, learnt=learnt[name]) for name, found in syntaxes.items()}


def learn(
    engine: Engine, destination: str, found: Mapping[str, Sequence[str]], now: datetime
) -> tuple[str, ...]:
    """Put down what a destination has just answered, in the place of all that was known of it.

    Returns
    -------
    SOP classes that it refuses, if it did not refuse just these before; they are in the audit.
    """
    before = known(engine, [destination]).get(destination)
    rows = [
        {
            "destination": destination,
            "sop_class_uid": sop_class,
            "transfer_syntaxes": list(syntaxes),
            "learnt": now,
        }
        for sop_class, syntaxes in found.items()
    ]
    refused = tuple(sorted(sop_class for sop_class, syntaxes in found.items() if not syntaxes))
    news = () if before is not None and refused == _refused(before) else refused
    table = schema.accepted
    with engine.begin() as connection:
        connection.execute(delete(table).where(table.c.destination == destination))
        if rows:
            connection.execute(insert(table), rows)
        for sop_class in news:
            detail = {"destination": destination, "sop_class_uid": sop_class}
            audit.record(connection, "sop_class_refused", now=now, actor=destination, detail=detail)
    return news


def contradict(connection: Connection, destination: str, sop_class_uid: str) -> None:
    """Note inside the caller's transaction that a destination does not take a SOP class after all.

    All that is known of it counts as learnt long ago: it is asked again soon.
    """
    doubt(connection, destination)
    table = schema.accepted
    connection.execute(
        update(table)
        .where(table.c.destination == destination, table.c.sop_class_uid == sop_class_uid)
        .values(transfer_syntaxes=[])
    )


def doubt(connection: Connection, destination: str) -> None:
    """Have a destination asked again soon, inside the caller's transaction."""
    table = schema.accepted
    mine = table.c.destination == destination
    connection.execute(update(table).where(mine).values(learnt=_LONG_AGO))


def _refused(accepted: Accepted) -> tuple[str, ...]:
    return tuple(sorted(uid for uid, syntaxes in accepted.syntaxes.items() if not syntaxes))
