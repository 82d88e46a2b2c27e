"""Which stored files the ledger needs."""

from collections.abc import Iterable
from pathlib import Path

from sqlalchemy import Connection, Engine, select

from node.ledger import schema
from node.ledger.engine import reading

_TABLES = (schema.instance, schema.instance_conflict, schema.reception, schema.artifact)
#: Most values that one statement names.
_BATCH = 500


def known_files(engine: Engine, paths: Iterable[Path]) -> frozenset[Path]:
    """Return those of the stored files that any row of the ledger needs."""
    with reading(engine) as connection:
        return needed(connection, paths)


def missing_files(engine: Engine) -> tuple[Path, ...]:
    """Return the files that the instances of the ledger need and that are not there."""
    table = schema.instance.c
    query = select(table.path).where(table.expired.is_(None)).order_by(table.id)
    with reading(engine) as connection:
        return tuple(path for path in map(Path, connection.scalars(query)) if not path.is_file())


def needed(connection: Connection, paths: Iterable[Path]) -> frozenset[Path]:
    """Return what ``known_files`` does, as the caller's transaction sees it."""
    texts = [str(path) for path in paths]
    found: set[Path] = set()
    for start in range(0, len(texts), _BATCH):
        for table in _TABLES:
            some = table.c.path.in_(texts[start : start + _BATCH])
            query = select(table.c.path).where(some, table.c.expired.is_(None))
            found.update(Path(text) for text in connection.scalars(query))
    return frozenset(found)
