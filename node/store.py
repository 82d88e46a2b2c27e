"""Files that survive a power cut: written under the hash of their content, or not at all."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """One durable file."""

    path: Path
    #: Of its content, hex.
    sha256: str


def write_durably(root: Path, content: bytes, *, floor_bytes: int = 0) -> Stored:
    """Return where ``content`` now lies for good: ``root/objects/sha256/ab/<hash>.dcm``.

    Part file, fsync, rename, fsync of the folder. The same content is stored once.

    Parameters
    ----------
    root
        The data folder.
    floor_bytes
        Free space that must remain.

    Raises
    ------
    StorageFullError
        No room, or less than the floor: nothing is left behind.
    """
    raise NotImplementedError


def keep(root: Path, file: Path) -> Stored:
    """Take a finished file of a task folder into the store; see ``write_durably``."""
    raise NotImplementedError


def path_of(root: Path, sha256: str) -> Path:
    """Return where content of that hash lies, if it is stored."""
    raise NotImplementedError
