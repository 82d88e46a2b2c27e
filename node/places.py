"""Where the files of a data folder lie."""

import secrets
from functools import lru_cache
from pathlib import Path


def path_of(root: Path, digest: str) -> Path:
    """Return where content of that hash lies, if it is stored."""
    return _folder_of(root, digest[:2]) / f"{digest}.dcm"


def new_part(root: Path) -> Path:
    """Return where a file can be written that nobody knows yet."""
    return parts_of(root) / f"{secrets.token_hex(16)}.part"


# Paths are put together slowly: these are the same for every image.
@lru_cache(maxsize=1024)
def _folder_of(root: Path, prefix: str) -> Path:
    return objects_of(root) / prefix


@lru_cache(maxsize=16)
def objects_of(root: Path) -> Path:
    """Return the folder of the stored files' folders."""
    return root / "objects" / "blake3"


@lru_cache(maxsize=16)
def parts_of(root: Path) -> Path:
    """Return the folder of files that are being written."""
    return root / "objects" / "parts"
