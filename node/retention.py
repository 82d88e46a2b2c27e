"""Deleting what owes nothing to anyone: what is old always, what is younger only when it must."""

import logging
import shutil
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from dicom_io.errors import DicomInputError
from node import store
from node.config import StorageSettings
from node.ledger import retention
from node.ledger.engine import Engine
from node.ledger.retention import Settled

logger = logging.getLogger(__name__)

#: A file that was written later may be one that a row is about to be written for; a study of which
#: something arrived later may not be whole.
YOUNGEST = timedelta(hours=1)
#: Studies of one turn: whoever stops the node waits for its end.
_MOST_STUDIES = 50
_ALARM_EVERY = timedelta(hours=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """How full the file system of the store is."""

    #: Of what may be used without root, as ``df`` tells it.
    used_percent: float
    free_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """How the store stands, and what would be deleted next."""

    usage: Usage
    #: Studies that are old enough and owe nothing: they go with the next turns.
    due: int
    #: Studies that owe nothing and go only above the watermark.
    younger: int
    #: The first of all these; None if there is none.
    first: Settled | None


class Retention:
    """The sweep that deletes, and the alarm when it may not.

    Parameters
    ----------
    root
        The data folder.
    measure
        Tells how full the file system is that holds it.
    """

    def __init__(
        self,
        engine: Engine,
        root: Path,
        settings: StorageSettings,
        *,
        measure: Callable[[Path], Usage] | None = None,
    ) -> None:
        self._engine = engine
        self._root = root
        self._settings = settings
        self._measure = measure or usage_of
        self._alarmed: datetime | None = None

    def sweep(self, now: datetime) -> int:
        """Delete what may go now; return of how many studies that was."""
        old = now - _age(self._settings)
        gone = self._delete(old, "age", now, wanted=lambda: True)
        self._remove(retention.expire_strays(self._engine, before=old, now=now), now)
        left = _MOST_STUDIES - gone
        gone += self._delete(now - YOUNGEST, "watermark", now, wanted=self._too_full, most=left)
        self._alarm(now, gone=gone)
        return gone

    def _delete(
        self,
        before: datetime,
        reason: str,
        now: datetime,
        *,
        wanted: Callable[[], bool],
        most: int = _MOST_STUDIES,
    ) -> int:
        """Delete studies one by one, oldest first, as long as it is wanted."""
        gone = 0
        found = retention.settled(self._engine, before=before, limit=most) if wanted() else ()
        for study in found:
            if not wanted():
                break
            self._delete_study(study, before, reason, now)
            gone += 1
        return gone

    def _delete_study(self, study: Settled, before: datetime, reason: str, now: datetime) -> None:
        uid = study.study_instance_uid
        files = retention.expire(
            self._engine, uid, before=before, header=self._header(uid), reason=reason, now=now
        )
        sys.audit("pellucid.retention.expired")
        removed = self._remove(files, now)
        extra = {"event": "study_expired", "study": uid, "files": removed, "reason": reason}
        logger.info("files of a study are deleted", extra=extra)

    def _header(self, study_instance_uid: str) -> bytes | None:
        """Return what a rejection note of the study would need; None if nobody has anything."""
        # Only where something is deleted: what encodes is heavy, and the main process light.
        from dicom_io.encode.study_header import study_header

        for path in retention.delivered_files(self._engine, study_instance_uid):
            try:
                return study_header(path)
            except (OSError, DicomInputError):
                continue
        return None

    def _remove(self, files: Iterable[Path], now: datetime) -> int:
        removed = 0
        for path in files:
            if path.parent.is_dir() and store.remove_older(path, now - YOUNGEST):
                removed += 1
                sys.audit("pellucid.retention.removed")
        return removed

    def _too_full(self) -> bool:
        return self._measure(self._root).used_percent > self._settings.watermark_percent

    def _alarm(self, now: datetime, *, gone: int) -> None:
        """Say once an hour that the store is too full and nothing more may go."""
        if not self._too_full():
            self._alarmed = None
            return
        recently = self._alarmed is not None and now - self._alarmed < _ALARM_EVERY
        if gone or recently:
            return
        self._alarmed = now
        logger.error(
            "the store is above its watermark and nothing may be deleted: everything in it is "
            "owed to someone or waits for a person; read pellucid status, or give it more room",
            extra={"event": "store_above_watermark", "percent": self._settings.watermark_percent},
        )


def usage_of(root: Path) -> Usage:
    """Return how full the file system is that holds a folder."""
    found = shutil.disk_usage(root)
    usable = found.used + found.free
    return Usage(used_percent=100.0 * found.used / usable, free_bytes=found.free)


def outlook(engine: Engine, root: Path, settings: StorageSettings, now: datetime) -> Outlook:
    """Return how the store stands, and what a sweep would delete."""
    old, young = now - _age(settings), now - YOUNGEST
    due = retention.count_settled(engine, before=old)
    first = retention.settled(engine, before=young)
    return Outlook(
        usage=usage_of(root),
        due=due,
        younger=retention.count_settled(engine, before=young) - due,
        first=first[0] if first else None,
    )


def _age(settings: StorageSettings) -> timedelta:
    return max(timedelta(days=settings.retention_days), YOUNGEST)
