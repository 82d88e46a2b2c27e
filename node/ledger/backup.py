"""Copies of an SQLite ledger: made before a migration, and put back when a person goes back."""

import shutil
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from node.errors import LedgerError

#: Copies of earlier migrations that stay.
_KEPT = 3
_MARK = ".before-"


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerCopy:
    """A ledger as it was before it was migrated."""

    path: Path
    #: Which it is of; the program that wrote it reads no other.
    revision: str
    made: datetime


def back_up(file: Path, *, found: str, head: str, free_bytes: int | None = None) -> Path:
    """Copy a ledger beside itself before it is migrated; only the newest three copies stay.

    Parameters
    ----------
    found, head
        Its revision, and the one that it is about to get.
    free_bytes
        Room on its disk; None looks.

    Raises
    ------
    LedgerError
        There is no room for a copy, and for the ledger to grow as much.
    """
    copy = file.with_name(f"{file.name}{_MARK}{head}")
    size = sum(part.stat().st_size for part in (file, _wal(file)) if part.exists())
    free = shutil.disk_usage(file.parent).free if free_bytes is None else free_bytes
    if free < 2 * size:
        raise LedgerError(
            f"the ledger is at revision {found} and must be copied before it is brought to {head}: "
            f"{free / 1e6:.0f} MB are free, {2 * size / 1e6:.0f} MB needed; nothing was changed"
        )
    _copy(file, copy)
    for old in copies(file)[_KEPT:]:
        old.path.unlink()
    return copy


def copies(file: Path) -> tuple[LedgerCopy, ...]:
    """Return the copies of a ledger, the newest first."""
    found = [path for path in file.parent.glob(f"{file.name}{_MARK}*") if path.suffix != ".part"]
    every = (
        LedgerCopy(
            path=path,
            revision=_revision(path),
            made=datetime.fromtimestamp(path.stat().st_mtime, UTC),
        )
        for path in found
    )
    return tuple(sorted(every, key=lambda each: (each.revision, each.made), reverse=True))


def restore(file: Path, copy: LedgerCopy) -> Path:
    """Put a copy in the place of the ledger; return where the ledger is kept that it replaces.

    Nobody may have it open. A crash on the way leaves the one or the other, whole.
    """
    replaced = file.with_name(f"{file.name}.replaced-{_revision(file)}")
    _copy(file, replaced)
    with closing(sqlite3.connect(copy.path)) as source, closing(sqlite3.connect(file)) as target:
        source.backup(target)
    return replaced


def _copy(file: Path, copy: Path) -> None:
    part = copy.with_name(f"{copy.name}.part")
    part.unlink(missing_ok=True)
    with closing(sqlite3.connect(file)) as source, closing(sqlite3.connect(part)) as target:
        source.backup(target)
    part.replace(copy)


def _revision(file: Path) -> str:
    with closing(sqlite3.connect(file)) as connection:
        row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    return "" if row is None else str(row[0])


def _wal(file: Path) -> Path:
    return file.with_name(f"{file.name}-wal")
