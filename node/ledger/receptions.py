"""What the ledger knows of an image that was received at some moment."""

from datetime import datetime
from pathlib import Path

from sqlalchemy import Engine, exists, select

from node.ledger import schema
from node.ledger.engine import reading


def is_known(engine: Engine, path: Path, at: datetime) -> bool:
    """Return whether the content that is stored there is known to have come then, or later."""
    table = schema.reception.c
    query = select(exists().where(table.path == str(path), table.at >= at))
    with reading(engine) as connection:
        return bool(connection.scalar(query))
