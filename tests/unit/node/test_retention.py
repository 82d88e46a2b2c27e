"""Files go when nobody needs them: the old always, younger ones above the watermark, never owed."""

import logging
import os
from datetime import UTC, datetime, timedelta

import pytest
from pydicom import dcmread

from dicom_io.header import read_header
from node import store
from node.config import StorageSettings
from node.ledger import outbox, retention, studies, tasks
from node.retention import Outlook, Retention, Usage, outlook
from node.sweep import remove_orphans, sweep_at_start
from node.task import NewDelivery, PlannedTask, Reception, StudyState
from tests.build_ledger import new_ledger, record_arrival, write_instance
from tests.unit.node.test_retract import config, pellucid  # noqa: F401 (fixtures)

NOW = datetime.now(UTC)
SR = "1.2.840.10008.5.1.4.1.1.88.22"


@pytest.fixture
def data(config):  # noqa: F811
    return config / "data"


@pytest.fixture
def engine(data):
    engine = new_ledger(data)
    yield engine
    engine.dispose()


def days_ago(days):
    return NOW - timedelta(days=days)


def kept(data, path, days):
    """Take a file into the store, as if it had been days ago."""
    stored = store.keep(data, path)
    os.utime(stored.path, (days_ago(days).timestamp(),) * 2)
    return stored


def arrived(engine, data, study, *, days):
    """Have a study of one image arrive and become complete without work; return its file."""
    path = write_instance(data / "sent", f"{study}.7.1", study_instance_uid=study)
    stored = kept(data, path, days)
    reception = Reception(
        called_ae="PELLUCID", calling_ae="CT1", address="10.0.0.1", at=days_ago(days)
    )
    record_arrival(engine, read_header(stored.path), reception, digest=stored.digest)
    studies.complete(engine, study, [], now=days_ago(days))
    return stored.path


def analyzed(engine, data, study, *, days):
    """Have a report of a study made that is owed to a destination; return task and file."""
    path = write_instance(data / "sent", f"{study}.7.1", study_instance_uid=study)
    stored = kept(data, path, days)
    reception = Reception(
        called_ae="PELLUCID", calling_ae="CT1", address="10.0.0.1", at=days_ago(days)
    )
    record_arrival(engine, read_header(stored.path), reception, digest=stored.digest)
    planned = [PlannedTask(route="head", config_hash="ab")]
    studies.complete(engine, study, planned, now=days_ago(days))
    held = tasks.claim(engine, "w", days_ago(days))
    uid = f"2.25.{study.replace('.', '')}"
    made = write_instance(data / "made", uid, sop_class_uid=SR, study_instance_uid=study)
    report = NewDelivery(
        destination="pacs",
        result="report",
        series_instance_uid=f"{study}.9",
        sop_class_uid=SR,
        sop_instance_uid=uid,
        model="nodule",
        model_version="1.2",
        path=kept(data, made, days).path,
    )
    assert tasks.finish(engine, held, [report], days_ago(days))
    return held, report.path


def deliver(engine, held):
    for each in outbox.of_task(engine, held.id):
        outbox.delivered(engine, each, 0x0000, NOW)


class Disk:
    """A file system that is as full as it is told to be, and less so after every look."""

    def __init__(self, *percents):
        self._percents = list(percents)

    def __call__(self, root):
        left = len(self._percents) > 1
        percent = self._percents.pop(0) if left else self._percents[0]
        return Usage(used_percent=percent, free_bytes=10**9)


def sweeping(engine, data, *percents):
    return Retention(engine, data, StorageSettings(), measure=Disk(*percents or (10.0,)))


def test_a_study_goes_after_its_days_with_all_its_files(engine, data):
    old = arrived(engine, data, "1.2.826.1", days=8)
    young = arrived(engine, data, "1.2.826.2", days=6)

    gone = sweeping(engine, data).sweep(NOW)

    assert (gone, old.exists(), young.exists()) == (1, False, True)
    assert studies.state(engine, "1.2.826.1") is StudyState.EXPIRED
    assert sweep_at_start(engine, data).missing == ()


def test_what_is_owed_stays_however_old_and_however_full_the_disk_is(engine, data):
    held, report = analyzed(engine, data, "1.2.826.1", days=100)

    gone = sweeping(engine, data, 99.0).sweep(NOW)
    owed = report.exists()
    deliver(engine, held)
    sweeping(engine, data).sweep(NOW)

    assert (gone, owed, report.exists()) == (0, True, False)


def test_above_the_watermark_younger_studies_go_oldest_first_until_it_is_below(engine, data):
    paths = [arrived(engine, data, f"1.2.826.{n}", days=6 - n) for n in range(4)]

    gone = sweeping(engine, data, 95.0, 95.0, 92.0, 89.0).sweep(NOW)

    assert gone == 2
    assert [path.exists() for path in paths] == [False, False, True, True]


def test_what_has_just_come_stays_even_above_the_watermark(engine, data):
    fresh = arrived(engine, data, "1.2.826.1", days=0)

    assert sweeping(engine, data, 99.0).sweep(NOW) == 0
    assert fresh.exists()


def test_a_full_store_of_owed_things_is_an_alarm_once_an_hour(engine, data, caplog):
    analyzed(engine, data, "1.2.826.1", days=8)
    sweep = sweeping(engine, data, 95.0)

    with caplog.at_level(logging.ERROR):
        for minutes in (0, 1, 59, 61):
            sweep.sweep(NOW + timedelta(minutes=minutes))

    events = [record.event for record in caplog.records]
    assert events == ["store_above_watermark"] * 2


def test_a_crash_between_row_and_file_leaves_an_orphan_that_is_collected(engine, data):
    path = arrived(engine, data, "1.2.826.1", days=8)
    retention.expire(engine, "1.2.826.1", before=days_ago(7), header=None, reason="age", now=NOW)

    assert sweep_at_start(engine, data).missing == ()
    assert path.exists()
    assert remove_orphans(engine, data, NOW) == 1
    assert not path.exists()


def test_a_file_that_is_being_received_again_is_not_deleted_under_its_sender(engine, data):
    path = arrived(engine, data, "1.2.826.1", days=8)
    store.write_durably(data, path.read_bytes())

    sweeping(engine, data).sweep(NOW)

    assert path.exists()


def test_results_can_be_withdrawn_after_their_files_are_gone(engine, data, pellucid):  # noqa: F811
    held, report = analyzed(engine, data, "1.2.826.1", days=8)
    deliver(engine, held)
    sweeping(engine, data).sweep(NOW)

    status, _, _ = pellucid("retract", "1.2.826.1", "--yes")

    (note,) = [each for each in outbox.of_task(engine, held.id) if each.result != "report"]
    document = dcmread(note.path)
    assert (status, report.exists()) == (0, False)
    assert (document.PatientID, document.StudyInstanceUID) == ("CANARY-4711", "1.2.826.1")
    assert retention.settled(engine, before=NOW + timedelta(days=9)) == ()
    deliver(engine, held)
    assert len(retention.settled(engine, before=NOW + timedelta(days=9))) == 1


def test_the_outlook_tells_what_would_go_next(engine, data):
    arrived(engine, data, "1.2.826.1", days=8)
    arrived(engine, data, "1.2.826.2", days=3)
    analyzed(engine, data, "1.2.826.3", days=9)

    found = outlook(engine, data, StorageSettings(), NOW)

    assert isinstance(found, Outlook)
    assert (found.due, found.younger) == (1, 1)
    assert found.first.study_instance_uid == "1.2.826.1"


def test_status_tells_how_full_the_store_is_and_what_goes_next(engine, data, pellucid):  # noqa: F811
    arrived(engine, data, "1.2.826.1", days=8)

    code, out, _ = pellucid("status", "--json")

    assert code == 0
    for words in ('"Storage"', '"watermark": "90 %"', "1.2.826.1", '"floor": "2 GB"'):
        assert words in out
