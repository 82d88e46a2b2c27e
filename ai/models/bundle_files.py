"""The files of a bundle: known by their sha256, and read only as the bytes that were hashed."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from ai.errors import ModelUnavailableError

_CHUNK = 1 << 20


def hash_bundle(folder: Path) -> dict[str, str]:
    """Return the sha256 (hex) of every file under ``folder`` by its POSIX path within it.

    Raises
    ------
    ModelUnavailableError
        There is something that no hash covers: a link to a folder, a link to nothing, a socket.
    """
    found = sorted((path.relative_to(folder).as_posix(), path) for path in folder.rglob("*"))
    for name, path in found:
        if path.is_dir() and path.is_symlink():
            raise ModelUnavailableError(
                f"bundle {folder}: {name} is a link to a folder, which no hash covers: copy it"
            )
        if not path.is_dir() and not path.is_file():
            raise ModelUnavailableError(f"bundle {folder}: {name} is no file: remove it")
    return {name: _hash(path) for name, path in found if path.is_file()}


def verify_bundle(folder: Path, expected: Mapping[str, str]) -> None:
    """Check that ``folder`` holds exactly the files that are listed, with these hashes.

    Raises
    ------
    ModelUnavailableError
        Naming the files that are missing, not listed or changed, and what to do.
    """
    if not folder.is_dir():
        raise ModelUnavailableError(f"bundle {folder}: no such folder")
    found = hash_bundle(folder)
    problems = [f"{name} is missing" for name in sorted(expected.keys() - found.keys())]
    problems += [f"{name} is not listed" for name in sorted(found.keys() - expected.keys())]
    problems += [
        f"{name} has sha256 {found[name]}, listed is {expected[name]}"
        for name in sorted(found.keys() & expected.keys())
        if found[name] != expected[name].lower()
    ]
    if problems:
        raise ModelUnavailableError(
            f"bundle {folder}: {'; '.join(problems)}; restore the files, or review the change "
            f"and list them anew with `pellucid models add`"
        )


def read_verified(folder: Path, name: str, expected: Mapping[str, str]) -> bytes:
    """Return the bytes of one listed file; the very bytes returned have the listed sha256.

    Raises
    ------
    ModelUnavailableError
        The file is not listed, cannot be read or has changed since it was listed.
    """
    if name not in expected:
        raise ModelUnavailableError(f"bundle {folder}: {name} is not among its listed files")
    try:
        content = (folder / name).read_bytes()
    except OSError as error:
        raise ModelUnavailableError(f"bundle {folder}: {name} cannot be read: {error}") from error
    if hashlib.sha256(content).hexdigest() != expected[name].lower():
        raise ModelUnavailableError(f"bundle {folder}: {name} changed while it was being loaded")
    return content


def _hash(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
