"""What each worker is doing just now: one small file per worker, for status and the demo.

It is a courtesy and no state: whatever is decided is decided from the ledger.
"""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

logger = logging.getLogger(__name__)

_FOLDER = "progress"


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """One worker's task, and how far it is."""

    worker: str
    task: int
    study_instance_uid: str
    route: str
    #: ``load``, ``read``, ``analyze``, ``gate``, ``encode`` or ``write``.
    stage: str
    #: Parts of the stage that are done, of all; of ``analyze``, the prediction is one part of as
    #: many as there are explanations and one, told in thousandths.
    done: int = 0
    total: int = 0


def write_progress(data: Path, progress: Progress) -> None:
    """Put down what a worker is doing, if that is possible."""
    folder = data / _FOLDER
    with _courtesy():
        folder.mkdir(exist_ok=True)
        part = folder / f"{progress.worker}.part"
        part.write_text(json.dumps(asdict(progress)), encoding="utf-8")
        part.replace(folder / f"{progress.worker}.json")


def clear_progress(data: Path, worker: str) -> None:
    """Put down that a worker is idle."""
    with _courtesy():
        (data / _FOLDER / f"{worker}.json").unlink(missing_ok=True)


def read_progress(data: Path) -> tuple[Progress, ...]:
    """Return what the workers on this data folder are doing, by name of the worker."""
    found = []
    for path in sorted((data / _FOLDER).glob("*.json")):
        try:
            found.append(Progress(**json.loads(path.read_text(encoding="utf-8"))))
        except FileNotFoundError:
            continue  # its worker has become idle in between
    return tuple(found)


@contextmanager
def _courtesy() -> Iterator[None]:
    """Let no task fail because nobody can see how far it is."""
    try:
        yield
    except OSError as error:
        extra = {"event": "progress_unknown", "reason": str(error)}
        logger.debug("progress cannot be put down", extra=extra)
