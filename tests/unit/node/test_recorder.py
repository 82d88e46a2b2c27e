"""Arrivals enter the ledger together; each is told what came of it, none suffers for another."""

import errno
import fcntl
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from dicom_io.study import Instance
from node.ledger import instances
from node.ledger.engine import DBAPIError
from node.ledger.instances import Added, Arrived
from node.recorder import Recorder
from node.task import Reception
from tests.wait import until

STUDY = "1.2.3"


@pytest.fixture
def recorder(ledger, tmp_path):
    with closing(Recorder(ledger, tmp_path / "turn")) as recorder:
        yield recorder


def arrived(number, **changes):
    instance = Instance(
        study_instance_uid=STUDY,
        series_instance_uid="1.2.3.4",
        sop_instance_uid=f"1.2.3.4.{number}",
        sop_class_uid="1.2.840.10008.5.1.4.1.1.4",
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        path=Path(f"/data/{number}"),
        patient_id="P1",
    )
    reception = Reception(
        called_ae="PELLUCID", calling_ae="CT1", address="10.0.0.1", at=datetime.now(UTC)
    )
    made = Arrived(instance=instance, reception=reception, sha256=f"{number}".rjust(64, "0"))
    return replace(made, **changes)


def record_at_once(recorder, all_arrived):
    """Have each recorded by a thread of its own; return what each of them was told."""
    told = {}

    def record(number, each):
        try:
            told[number] = recorder.record(each)
        except DBAPIError as error:
            told[number] = error

    threads = [
        threading.Thread(target=record, args=(number, each))
        for number, each in enumerate(all_arrived)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return [told[number] for number in range(len(all_arrived))]


def test_what_arrives_at_once_is_all_recorded(ledger, recorder):
    told = record_at_once(recorder, [arrived(number) for number in range(40)])

    assert told == [Added.NEW] * 40
    assert len(instances.of_study(ledger, STUDY)) == 40


def test_the_same_instance_twice_at_once_is_new_and_a_duplicate(ledger, recorder):
    told = record_at_once(recorder, [arrived(1), arrived(1)])

    assert sorted(told) == sorted([Added.NEW, Added.DUPLICATE])


def test_one_that_cannot_be_written_fails_alone(ledger, recorder):
    impossible = arrived(1, sha256=None)

    told = record_at_once(recorder, [arrived(2), impossible, arrived(3)])

    assert [told[0], told[2]] == [Added.NEW, Added.NEW]
    assert isinstance(told[1], DBAPIError)
    # What the values were is nobody's business who reads an error.
    assert "/data/1" not in str(told[1]).partition("DETAIL")[0]
    assert len(instances.of_study(ledger, STUDY)) == 2


class TurnThatFailsOnce:
    """The file of the turns: it cannot be locked the second time that somebody wants to."""

    def __init__(self, path):
        self._file = path.open("ab")
        #: Each turn asks for it twice, to lock and to unlock.
        self._asked = 0

    def open(self, _mode):
        return self

    def fileno(self):
        self._asked += 1
        if self._asked == 3:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return self._file.fileno()

    def close(self):
        self._file.close()


def test_all_that_wait_are_told_when_the_turn_cannot_be_had(ledger, tmp_path):
    turn = tmp_path / "turn"
    with (
        closing(Recorder(ledger, TurnThatFailsOnce(turn))) as recorder,
        ThreadPoolExecutor(20) as pool,
        turn.open("ab") as other,
    ):
        # Another receiver has its turn; one waits for it, and all others for that one.
        fcntl.flock(other, fcntl.LOCK_EX)
        first = pool.submit(recorder.record, arrived(0))
        until(lambda: threads_that_wait_for(turn), seconds=30)
        behind = [pool.submit(recorder.record, arrived(number)) for number in range(1, 20)]
        until(lambda: len(recorder._queue) == 19, seconds=30)
        fcntl.flock(other, fcntl.LOCK_UN)

        told = [type(each.exception(timeout=60)) for each in behind]
        after = recorder.record(arrived(1))

    assert first.result() is Added.NEW
    assert told == [OSError] * 19
    assert after is Added.NEW
    assert len(instances.of_study(ledger, STUDY)) == 2


def threads_that_wait_for(file):
    """Return the lines of the kernel that say so (proc_locks(5))."""
    inode = file.stat().st_ino
    lines = Path("/proc/locks").read_text().splitlines()
    return [line for line in lines if " -> " in line and f":{inode} " in line]
