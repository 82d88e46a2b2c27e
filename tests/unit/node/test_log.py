"""The log: one line per event, and nothing of a patient."""

import io
import json
import logging

import pytest

from dicom_io.errors import DicomInputError
from node.log import JsonFormatter, LogStyle, TextFormatter, configure_logging, fields_of


@pytest.fixture
def restored_logging():
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def record(message="task done", error=None, **fields):
    exc_info = (type(error), error, error.__traceback__) if error else None
    made = logging.makeLogRecord(
        {"name": "node.worker", "levelno": 20, "levelname": "INFO", "msg": message, **fields}
    )
    made.created = 0.0
    made.exc_info = exc_info
    return made


def raised(error):
    try:
        raise error
    except type(error) as caught:
        return caught


def test_a_line_for_people_tells_time_level_place_message_and_fields():
    line = TextFormatter().format(record(event="task_done", task=7, reason="two words"))

    assert line == (
        "1970-01-01T00:00:00.000Z INFO    worker: task done event=task_done task=7 "
        'reason="two words"'
    )


def test_a_line_for_machines_is_one_json_object():
    line = JsonFormatter().format(record(event="task_done", task=7))

    assert "\n" not in line
    assert json.loads(line) == {
        "time": "1970-01-01T00:00:00.000Z",
        "level": "info",
        "logger": "node.worker",
        "message": "task done",
        "event": "task_done",
        "task": 7,
    }


@pytest.mark.parametrize("formatter", [TextFormatter(), JsonFormatter()])
def test_a_foreign_error_is_told_without_its_message(formatter):
    error = raised(ValueError("PatientName is Doe^Jane"))

    line = formatter.format(record(error=error))

    assert "ValueError" in line
    assert "test_log.py" in line
    assert "Doe" not in line


def test_our_own_error_is_told_with_its_message_and_its_cause_without():
    error = raised(DicomInputError("series 1.2.3: slice gap 4.00 mm at 7, expected 2.00 mm"))
    error.__cause__ = raised(KeyError("Doe^Jane"))

    line = TextFormatter().format(record(error=error))

    assert "DicomInputError: series 1.2.3: slice gap 4.00 mm at 7" in line
    assert "KeyError" in line
    assert "Doe" not in line


def test_fields_are_what_the_caller_gave():
    assert dict(fields_of(record(event="x", attempt=2))) == {"event": "x", "attempt": 2}


@pytest.mark.usefixtures("restored_logging")
def test_libraries_that_may_quote_data_sets_are_silent_below_errors():
    stream = io.StringIO()

    configure_logging(logging.DEBUG, style=LogStyle.JSON, stream=stream)
    logging.getLogger("pydicom").warning("Invalid value of a name: 'Doe^Jane'")
    logging.getLogger("node.receive").info("instance stored", extra={"event": "stored"})

    assert json.loads(stream.getvalue())["event"] == "stored"
