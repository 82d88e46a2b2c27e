"""What was kept although it does not conform: images that nobody analyzes, by series."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Engine, func, select

from node.ledger.engine import reading
from node.ledger.schema import instance


@dataclass(frozen=True, slots=True, kw_only=True)
class Damaged:
    """Images of one series that count, and contradict themselves."""

    study_instance_uid: str
    series_instance_uid: str
    images: int
    #: When the newest of them arrived.
    since: datetime
    #: What is wrong with one of them, in words.
    reason: str


def damaged(
    engine: Engine, study_instance_uid: str | None = None, *, limit: int = 50
) -> tuple[Damaged, ...]:
    """Return what is damaged and still here, of all studies or of one, the newest first."""
    table = instance.c
    # As the index has it: of a million images it holds these alone.
    chosen: list[ColumnElement[bool]] = [
        table.nonconformance.is_not(None),
        table.replaced_in.is_(None),
        table.expired.is_(None),
    ]
    if study_instance_uid is not None:
        chosen.append(table.study_instance_uid == study_instance_uid)
    series = (table.study_instance_uid, table.series_instance_uid)
    since = func.max(table.arrived).label("since")
    query = (
        select(
            *series,
            func.count().label("images"),
            since,
            func.min(table.nonconformance).label("reason"),
        )
        .where(*chosen)
        .group_by(*series)
        .order_by(since.desc(), *series)
        .limit(limit)
    )
    with reading(engine) as connection:
        return tuple(Damaged(**row) for row in connection.execute(query).mappings())
