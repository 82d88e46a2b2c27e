"""What a data folder holds, to be compared with what a sender was acknowledged."""

import sqlite3
from contextlib import closing
from pathlib import Path

from blake3 import blake3

from tests.fault.oracle import UNFILED, landings
from tests.wait import until


def known_datasets(data: Path) -> set[bytes]:
    """Return the encoded data sets that are in the ledger and whole in the store.

    When nothing waits for that any more, which takes moments.
    """
    until(lambda: not landings(data), seconds=30, why=lambda: UNFILED)
    with closing(sqlite3.connect(data / "ledger.sqlite", timeout=30)) as ledger:
        rows = ledger.execute(
            "SELECT digest FROM instance UNION SELECT digest FROM instance_conflict"
        )
        known = {row[0] for row in rows}
    kept = set()
    for path in (data / "objects").rglob("*.dcm"):
        content = path.read_bytes()
        assert blake3(content).hexdigest() == path.stem, "a file is not what its name says"
        if path.stem in known:
            kept.add(dataset_of(content))
    return kept


def dataset_of(content: bytes) -> bytes:
    """Return what follows the File Meta Information (PS3.10 7.1)."""
    return content[144 + int.from_bytes(content[140:144], "little") :]
