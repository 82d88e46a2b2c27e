"""The points at which a node may die or fail, and the order that one of its processes obeys."""

import ast
import json
import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from itertools import count
from pathlib import Path

ROOT = Path(__file__).parents[2]
HOOK = Path(__file__).parent / "hook"


class Act(StrEnum):
    """What happens at a point."""

    #: SIGKILL to the process that comes there.
    KILL = "kill"
    #: SIGKILL to all processes of the node at once.
    CUT = "cut"
    ENOSPC = "ENOSPC"
    EIO = "EIO"
    MEMORY = "MemoryError"


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One ``sys.audit("pellucid....")`` in the source."""

    name: str
    #: Of the repository, with slashes.
    file: str

    @property
    def of_the_receiver(self) -> bool:
        """Whether a receiver alone comes there."""
        return self.name.startswith(("pellucid.receive.", "pellucid.store.")) or (
            self.file == "node/ledger/instances.py"
        )

    @property
    def of_the_retention(self) -> bool:
        """Whether only what deletes old studies comes there."""
        return self.file in ("node/retention.py", "node/ledger/retention.py")

    @property
    def of_a_worker(self) -> bool:
        """Whether a worker or its inference child comes there; others are the main process's."""
        return self.name.startswith(
            ("pellucid.worker.", "pellucid.handover.", "pellucid.inference.")
        ) or (self.file == "node/ledger/tasks.py")


def all_points() -> tuple[Point, ...]:
    """Return every point that the source names, each once."""
    found = {
        Point(name=name, file=path.relative_to(ROOT).as_posix())
        for path in sorted((ROOT / "node").rglob("*.py"))
        for name in _named(path)
    }
    return tuple(sorted(found, key=lambda point: point.name))


class Faults:
    """Where a test orders a fault; processes started with ``environment`` obey.

    Parameters
    ----------
    packages
        Folder whose packages are run in place of the repository's; None runs these.
    """

    def __init__(self, folder: Path, *, packages: Path | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._order, self._hit = folder / "order", folder / "hit"
        self._numbers = count()
        self._folder = folder
        self._packages = packages

    def environment(self, *, journal: Path | None = None) -> dict[str, str]:
        """Return what the processes must find in their environment."""
        first = [HOOK, self._packages] if self._packages else [HOOK]
        before = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
        kept = {} if journal is None else {"PELLUCID_JOURNAL": str(journal)}
        return {
            "PYTHONPATH": os.pathsep.join([*map(str, first), *before]),
            "PELLUCID_FAULTS": str(self._folder),
            **kept,
        }

    def order(
        self,
        point: str,
        act: Act,
        *,
        once: bool = True,
        skip: int = 0,
        after: Collection[str] = (),
    ) -> None:
        """Have the next process that comes to a point die or fail there.

        Parameters
        ----------
        once
            Or again and again, until the order is withdrawn.
        skip
            How often a process may pass the point before.
        after
            Points that the process must have passed before.
        """
        self.withdraw()
        text = json.dumps(
            {
                "number": next(self._numbers),
                "point": point,
                "act": act,
                "once": once,
                "skip": skip,
                "after": list(after),
            }
        )
        part = self._order.with_suffix(".part")
        part.write_text(text)
        part.rename(self._order)

    @property
    def hit(self) -> bool:
        """Whether a process has obeyed the order."""
        return self._hit.exists()

    @property
    def victim(self) -> int | None:
        """The process that obeyed; None before."""
        text = self._hit.read_text() if self.hit else ""
        return int(text) if text else None

    def withdraw(self) -> None:
        """End the fault, and forget whether it came to it."""
        self._order.unlink(missing_ok=True)
        self._hit.unlink(missing_ok=True)

    @contextmanager
    def lasting(self, point: str, act: Act) -> Iterator[None]:
        """Have every process fail at a point for as long as the block runs."""
        self.order(point, act, once=False)
        try:
            yield
            assert self.hit, f"nobody came to {point}"
        finally:
            self.withdraw()


def _named(path: Path) -> Sequence[str]:
    return [
        node.args[0].value
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) == "sys.audit"
        and node.args
        and isinstance(node.args[0], ast.Constant)
        and str(node.args[0].value).startswith("pellucid.")
    ]
