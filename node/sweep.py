"""What a start finds lying about: unfinished files, files without a row, rows without a file."""

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path

from node import store
from node.ledger import files
from node.ledger.engine import Engine

logger = logging.getLogger(__name__)

_BATCH = 500
#: A file that is being written is written to more often than this.
_ABANDONED = timedelta(hours=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept:
    """What a sweep has found and done."""

    #: Unfinished files, deleted.
    parts: int
    #: Files that the ledger needs and the store has lost: a person must act.
    missing: tuple[Path, ...]


def sweep_at_start(engine: Engine, root: Path) -> Swept:
    """Make the store ready before any receiver or worker runs; delete parts, name lost files."""
    store.make_folders(root)
    swept = Swept(parts=store.remove_parts(root), missing=files.missing_files(engine))
    if swept.missing:
        logger.error(
            "stored instances are missing on disk: restore them from a backup or send them again",
            extra={"event": "files_missing", "count": len(swept.missing)},
        )
    return swept


def remove_orphans(
    engine: Engine, root: Path, now: datetime, *, age: timedelta = timedelta(days=1)
) -> int:
    """Delete stored files of that age which no row of the ledger refers to; return how many.

    A crash between file and row leaves one. If its sender was told Success it is where it landed,
    too, and is filed from there. The unfinished files of processes that died go as well, but are
    not counted.
    """
    store.remove_parts(root, written_before=now - _ABANDONED)
    removed = 0
    for batch in _batches(store.files_before(root, now - age)):
        for path in set(batch) - files.known_files(engine, batch):
            removed += store.remove_older(path, now - age)
    return removed


def _batches(paths: Iterable[Path]) -> Iterator[list[Path]]:
    iterator = iter(paths)
    while batch := list(islice(iterator, _BATCH)):
        yield batch
