"""What was received while content was known by SHA-256, and comes again."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import update

from node.ledger import schema
from node.ledger.engine import Connection

#: Where such files lie; whatever is there is known by that hash.
_THEIR_FOLDER = "/objects/sha256/"


def adopt(connection: Connection, held: Sequence[Any], file: Path, digest: str) -> bool:
    """Have the row with the content of a new file point to it; return whether there is one.

    Parameters
    ----------
    held
        Rows of ``instance``, all of one SOP Instance UID.
    digest
        By which the file is known.
    """
    earlier = [row for row in held if _THEIR_FOLDER in row.path]
    if not earlier:
        return False
    with file.open("rb") as content:
        known_as = hashlib.file_digest(content, "sha256").hexdigest()
    same = [row.id for row in earlier if row.digest == known_as]
    connection.execute(
        update(schema.instance)
        .where(schema.instance.c.id.in_(same))
        .values(digest=digest, path=str(file))
    )
    return bool(same)
