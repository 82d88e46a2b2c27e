"""What was measured of one method on one network, and the file that keeps it."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

OURS = "ours"
#: The session that predicts and makes all class activation maps: each of the layers it chooses,
#: and all of the last.
ALL_CAMS = "prediction + all CAMs"
ALL_LAST_CAMS = "prediction + all CAMs, last layer"
SESSIONS = (ALL_CAMS, ALL_LAST_CAMS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One line of the benchmark."""

    network: str
    #: ``ours``, or the library.
    library: str
    method: str
    #: Seconds of one plain forward pass, the cheapest seen beside this measurement.
    forward_seconds: float
    #: What it cost, in forward passes; None if it raised.
    cost: float | None = None
    #: Forward passes that it made of the network, as counted there.
    passes: float | None = None
    #: Most memory, as a multiple of what a plain forward pass takes; None where not measured.
    peak: float | None = None
    #: Of its axiom, relative; None for a method without.
    residual: float | None = None
    #: Name of the error, with its first words.
    raised: str = ""
    #: Greatest difference to ours, relative to its greatest value; None where not comparable.
    difference: float | None = None
    warnings: tuple[str, ...] = ()
    #: Forward passes with the default parameters, where it ran with quicker ones here.
    default_passes: float | None = None
    #: Cost of one image in a batch under half precision, in plain forward passes of one image.
    batched: float | None = None

    @property
    def key(self) -> tuple[str, str, str]:
        """What tells it from the others."""
        return self.network, self.library, self.method


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """All that was measured under one set of conditions."""

    conditions: dict[str, Any]
    records: dict[tuple[str, str, str], Record] = field(default_factory=dict)

    def add(self, record: Record) -> None:
        """Keep a record."""
        self.records[record.key] = record

    def of(self, library: str, methods: Iterable[str]) -> list[Record]:
        """Return the records of some methods of one library."""
        wanted = set(methods)
        return [
            each
            for each in self.records.values()
            if each.library == library and each.method in wanted
        ]


def save(session: Session, path: Path) -> None:
    """Write a session whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    records = [
        {name: value for name, value in asdict(each).items() if value not in (None, "", ())}
        for each in session.records.values()
    ]
    text = json.dumps({"conditions": session.conditions, "records": records}, indent=1)
    part = path.with_suffix(".part")
    part.write_text(text + "\n", encoding="utf-8")
    part.replace(path)


def load(path: Path) -> Session:
    """Return the session of a file."""
    read = json.loads(path.read_text(encoding="utf-8"))
    records = [
        Record(**each | {"warnings": tuple(each.get("warnings", ()))}) for each in read["records"]
    ]
    return Session(conditions=read["conditions"], records={each.key: each for each in records})
