"""The file that holds a record of each case as soon as it was read, so that work goes on."""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from ai.card.cases import CardSettings, Depth, KnownCase
from ai.card.records import CaseRecord, from_line, to_line

#: Changes when a record, or what is measured, does.
FORMAT = 2


def read_journal(path: Path) -> dict[str, CaseRecord]:
    """Return the records of a journal by their key; a line that was cut off is left out."""
    found: dict[str, CaseRecord] = {}
    if not path.exists():
        return found
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            record = from_line(line)
        except (ValueError, TypeError, KeyError):
            continue
        found[record.key] = record
    return found


def append(path: Path, record: CaseRecord) -> None:
    """Write a record at the end of a journal, and wait until it is on disk."""
    with path.open("ab+") as stream:
        # After a line that was cut off, a new one begins.
        cut = stream.tell() > 0 and not _ends_line(stream.tell(), path)
        stream.write(("\n" if cut else "").encode() + to_line(record).encode() + b"\n")
        stream.flush()
        os.fsync(stream.fileno())


def key_of(case: KnownCase, depth: Depth, settings: CardSettings, weights_sha256: str) -> str:
    """Return what a record depends on, as a sha256 (hex): image, truth, model and settings."""
    content = {
        "format": FORMAT,
        "weights": weights_sha256,
        "candidates": [[c.name, c.method, repr(c.explainer)] for c in settings.candidates],
        "seed": settings.seed,
        "steps": settings.steps,
        "passes": settings.passes,
        "depth": asdict(depth),
        "images": sorted(i.sop_instance_uid for i in case.series.instances),
        "truth": [_sha256(each.path) for each in case.files],
        "labels": _plain(case.labels),
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _ends_line(size: int, path: Path) -> bool:
    with path.open("rb") as stream:
        stream.seek(size - 1)
        return stream.read(1) == b"\n"


def _plain(labels: Mapping[str, bool]) -> dict[str, bool]:
    return {name: labels[name] for name in sorted(labels)}


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
