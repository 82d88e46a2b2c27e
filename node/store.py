"""Files that survive a power cut: written under the hash of their content, or not at all."""

import fcntl
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from node.folders import locked, make_folder, sync
from node.part import Part
from node.places import objects_of, parts_of
from node.steps import at_once
from node.unkept import Stored, Unkept

_FAR_FUTURE = datetime.max.replace(tzinfo=UTC)


def write_durably(root: Path, content: bytes, *, floor_bytes: int = 0) -> Stored:
    """Return where ``content`` now lies for good; see ``Unkept.keeping``.

    Raises
    ------
    StorageFullError
        No room, or less than the floor: nothing is left behind.
    """
    with Part(root, floor_bytes=floor_bytes) as part:
        part.write(content)
        finished = part.finish()
    with Unkept(root, finished) as unkept:
        return at_once(unkept.keeping())


def make_folders(root: Path) -> None:
    """Make every folder of the store, durable before anyone relies on it.

    Of two threads that write the first files of a folder, one makes it, and the other could
    finish before the folder itself is durable.
    """
    make_folder(objects_of(root))
    make_folder(parts_of(root))
    for number in range(256):
        (objects_of(root) / f"{number:02x}").mkdir(exist_ok=True)
    sync(objects_of(root))


def keep(root: Path, file: Path, *, floor_bytes: int = 0) -> Stored:
    """Take a finished file of a task folder into the store; see ``write_durably``."""
    return write_durably(root, file.read_bytes(), floor_bytes=floor_bytes)


def remove_parts(root: Path, written_before: datetime = _FAR_FUTURE) -> int:
    """Delete what unfinished writes have left; return how many.

    Parameters
    ----------
    written_before
        When they were last written to; while anybody writes, a moment long past.
    """
    removed = 0
    for part in parts_of(root).glob("*.part"):
        try:
            if part.stat().st_mtime < written_before.timestamp():
                part.unlink()
                removed += 1
        except FileNotFoundError:
            # Kept or given up by the one who wrote it, just now.
            continue
    return removed


def files_before(root: Path, moment: datetime) -> Iterator[Path]:
    """Return the stored files last written before a moment: those that a sweep may judge."""
    # Also where earlier versions have put them, under another hash.
    for path in (root / "objects").glob("*/??/*.dcm"):
        if path.stat().st_mtime < moment.timestamp():
            yield path


def remove_older(path: Path, moment: datetime) -> bool:
    """Delete a stored file unless someone has written it again since ``moment``."""
    with locked(path.parent, fcntl.LOCK_EX):
        if not path.exists() or path.stat().st_mtime >= moment.timestamp():
            return False
        path.unlink()
        return True
