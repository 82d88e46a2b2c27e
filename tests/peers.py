"""What a test needs from outside: found, or a skip that says what to install, or a failure."""

import os
import shutil
from pathlib import Path
from typing import NoReturn

import pytest

SHARED = Path(__file__).parents[2] / "shared"


def require(path_or_command: str, install: str) -> Path:
    """Return the path of a peer (a command or a file); skip the test if it is absent.

    With ``PELLUCID_REQUIRE_PEERS=1`` an absent peer fails the test.
    """
    if Path(path_or_command).exists():
        return Path(path_or_command)
    found = shutil.which(path_or_command)
    if found:
        return Path(found)
    return absent(f"{path_or_command} is not here: {install}")


def absent(reason: str) -> NoReturn:
    """Skip the test, or let it fail where nothing may be skipped."""
    if os.environ.get("PELLUCID_REQUIRE_PEERS") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


def require_shared(name: str) -> Path:
    """Return a file or folder of the test data beside the repository; skip if it is absent."""
    return require(str(SHARED / name), f"put the test data folder at {SHARED.name}/ beside it")
