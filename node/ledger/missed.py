"""What a ledger knows and an earlier one of the same node does not: files outlive the return."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, create_engine, make_url, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from node.errors import LedgerError


@dataclass(frozen=True, slots=True, kw_only=True)
class Since:
    """What a ledger holds and its copy does not, and what became of the files of the copy."""

    #: Of the copy; the program that wrote it reads no other.
    revision: str
    #: Files of what was received since; each once.
    received: tuple[Path, ...]
    studies: int
    #: Objects that were made since and have reached a destination.
    delivered: int
    #: Files that the copy needs and that are gone: deleted since, because nothing was owed.
    gone: tuple[Path, ...]


def since(ledger: str, copy: str) -> Since:
    """Return what would be unknown after a return to a copy.

    Parameters
    ----------
    ledger, copy
        SQLAlchemy URLs; each may be at any revision.

    Raises
    ------
    LedgerError
        One of them cannot be read, or is no ledger.
    """
    old_engine, new_engine = (create_engine(url, poolclass=NullPool) for url in (copy, ledger))
    try:
        with old_engine.connect() as old, new_engine.connect() as new:
            return _since(old, new)
    except DBAPIError as error:
        raise LedgerError(f"ledger and copy cannot be compared: {error.orig}") from error


def in_database(url: str, name: str) -> str:
    """Return the SQLAlchemy URL of another database on the server of a ledger."""
    return make_url(url).set(database=name).render_as_string(hide_password=False)


def shown(url: str) -> str:
    """Return a URL as it may be shown: without its password."""
    return make_url(url).render_as_string()


def _since(old: Connection, new: Connection) -> Since:
    last = old.scalar(text("SELECT coalesce(max(id), 0) FROM reception"))
    arrived = new.execute(
        text(
            "SELECT path, study_instance_uid FROM reception WHERE id > :last "
            "AND meaning != 'ours' ORDER BY id"
        ),
        {"last": last},
    ).all()
    known = set(old.scalars(text("SELECT sop_instance_uid FROM artifact")))
    sent = new.scalars(
        text("SELECT DISTINCT sop_instance_uid FROM delivery WHERE state = 'delivered'")
    )
    needed = [Path(each) for each in old.scalars(text("SELECT path FROM instance ORDER BY id"))]
    return Since(
        revision=str(old.scalar(text("SELECT version_num FROM alembic_version")) or ""),
        received=tuple(dict.fromkeys(Path(path) for path, _ in arrived)),
        studies=len({study for _, study in arrived}),
        delivered=sum(uid not in known for uid in sent),
        gone=tuple(path for path in needed if not path.is_file()),
    )


def set_apart(files: Sequence[Path], folder: Path) -> int:
    """Link files into a folder, so that they outlive their rows; return how many there are."""
    folder.mkdir(parents=True, exist_ok=True)
    apart = 0
    for path in files:
        if path.is_file():
            link = folder / path.name
            link.unlink(missing_ok=True)
            try:
                link.hardlink_to(path)
            except OSError:  # another file system, or one without links
                shutil.copy2(path, link)
            apart += 1
    return apart
