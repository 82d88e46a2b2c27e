"""Logging: one line per event, for people or as JSON; never a patient's data.

A line tells a constant message and the ``extra`` fields of its event. A foreign exception's
message may quote a data set, so only its class and its traceback are written.
"""

import json
import logging
import sys
import threading
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import TextIO

logger = logging.getLogger(__name__)

#: Exceptions of these packages and of the operating system say no more than UIDs and paths.
_SPEAKING_PACKAGES = ("node", "ai", "dicom_io")
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
#: Libraries whose own lines may quote data sets, or are noise.
_QUIET = ("apscheduler", "pydicom", "pynetdicom", "alembic", "sqlalchemy", "monai", "PIL")


class LogStyle(StrEnum):
    """Who reads the log."""

    #: Time, level, where, message, then fields as ``name=value``.
    TEXT = "text"
    #: One JSON object per line, for machines.
    JSON = "json"


class TextFormatter(logging.Formatter):
    """Writes a record as one line for people, and its traceback below."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        fields = " ".join(f"{name}={_plain(value)}" for name, value in fields_of(record).items())
        place = record.name.removeprefix("node.")
        words = (_time(record), f"{record.levelname:<7}", f"{place}:", record.getMessage(), fields)
        line = " ".join(word for word in words if word)
        error = _error_text(record)
        return f"{line}\n{error}" if error else line


class JsonFormatter(logging.Formatter):
    """Writes a record as one JSON object on one line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        content: dict[str, object] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **fields_of(record),
        }
        error = _error_text(record)
        if error:
            content["traceback"] = error
        return json.dumps(content, default=str)


def configure_logging(
    level: int = logging.INFO, *, style: LogStyle = LogStyle.TEXT, stream: TextIO | None = None
) -> None:
    """Send everything from ``level`` up to ``stream`` (standard error); once per process."""
    handler = logging.StreamHandler(sys.stderr if stream is None else stream)
    handler.setFormatter(JsonFormatter() if style is LogStyle.JSON else TextFormatter())
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level)
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.ERROR)
    logging.captureWarnings(capture=False)


def tell_thread_errors() -> None:
    """Log the error that ends a thread; Python itself would print its message. Once per process."""
    threading.excepthook = _log_thread_error


def fields_of(record: logging.LogRecord) -> Mapping[str, object]:
    """Return what the caller gave as ``extra``, in order."""
    return {name: value for name, value in vars(record).items() if name not in _STANDARD}


def safe_text(error: BaseException) -> str:
    """Return the error's class, and its message if that cannot hold a patient's data."""
    package = type(error).__module__.split(".", maxsplit=1)[0]
    if package in _SPEAKING_PACKAGES or isinstance(error, OSError):
        return f"{type(error).__name__}: {error}"
    return type(error).__name__


def _log_thread_error(ended: threading.ExceptHookArgs) -> None:
    if ended.exc_value is not None:
        extra = {"event": "thread_failed"}
        logger.error("thread ends by an error", exc_info=ended.exc_value, extra=extra)


def _error_text(record: logging.LogRecord) -> str:
    if not record.exc_info or record.exc_info[1] is None:
        return ""
    chain: list[str] = []
    error: BaseException | None = record.exc_info[1]
    while error is not None and len(chain) < 10:
        frames = "".join(traceback.format_tb(error.__traceback__))
        chain.append(f"{frames}{safe_text(error)}")
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return "\ncaused by\n".join(chain)


def _time(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, tz=UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _plain(value: object) -> str:
    text = str(value)
    return json.dumps(text) if not text or any(c.isspace() or c == '"' for c in text) else text
