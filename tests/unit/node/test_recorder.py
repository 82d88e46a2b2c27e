"""What has arrived is kept and entered together; each is told what came of it, none suffers."""

import errno
import fcntl
import os
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from queue import Queue

import pytest

from dicom_io.study import Instance
from node.ledger import instances
from node.ledger.engine import DBAPIError
from node.ledger.instances import Added, Arrived
from node.recorder import Recorder
from node.task import Reception
from tests.wait import until

STUDY = "1.2.3"
REFUSED = 0xC000


class Arriving:
    """One instance that has arrived: durable at once, or refused."""

    def __init__(self, kept):
        self.kept = kept
        self.is_closed = False

    def keeping(self):
        yield
        return self.kept

    def conclude(self, arrived, meaning):
        assert arrived is self.kept
        return meaning

    def close(self):
        self.is_closed = True


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


def keep_at_once(recorder, all_kept):
    """Have all of them kept; return what each was told, in their order."""
    told = Queue()
    for number, kept in enumerate(all_kept):
        arriving = Arriving(kept)
        recorder.keep(arriving, lambda meaning, each=(number, arriving): told.put((each, meaning)))
    found = {}
    for _ in all_kept:
        (number, arriving), meaning = told.get(timeout=60)
        assert arriving.is_closed
        found[number] = meaning
    return [found[number] for number in range(len(all_kept))]


def test_what_arrives_at_once_is_all_recorded(ledger, recorder):
    told = keep_at_once(recorder, [arrived(number) for number in range(200)])

    assert told == [Added.NEW] * 200
    assert len(instances.of_study(ledger, STUDY)) == 200


def test_the_same_instance_twice_at_once_is_new_and_a_duplicate(ledger, recorder):
    told = keep_at_once(recorder, [arrived(1), arrived(1)])

    assert told == [Added.NEW, Added.DUPLICATE]


def test_what_is_refused_is_told_so_among_the_others(ledger, recorder):
    told = keep_at_once(recorder, [arrived(1), REFUSED, arrived(2)])

    assert told == [Added.NEW, REFUSED, Added.NEW]
    assert len(instances.of_study(ledger, STUDY)) == 2


def test_what_was_kept_already_is_only_recorded(ledger, recorder):
    told = Queue()

    recorder.keep(Arriving(kept := arrived(1)), told.put, kept=kept)

    assert told.get(timeout=60) is Added.NEW
    assert len(instances.of_study(ledger, STUDY)) == 1


def test_one_that_cannot_be_written_fails_alone(ledger, recorder):
    impossible = arrived(1, sha256=None)

    told = keep_at_once(recorder, [arrived(2), impossible, arrived(3)])

    assert [told[0], told[2]] == [Added.NEW, Added.NEW]
    assert isinstance(told[1], DBAPIError)
    # What the values were is nobody's business who reads an error.
    assert "/data/1" not in str(told[1]).partition("DETAIL")[0]
    assert len(instances.of_study(ledger, STUDY)) == 2


def test_what_waits_is_kept_before_the_recorder_is_closed(ledger, tmp_path):
    told = Queue()
    with closing(Recorder(ledger, tmp_path / "turn")) as recorder:
        for number in range(100):
            recorder.keep(Arriving(arrived(number)), told.put)

    assert [told.get_nowait() for _ in range(100)] == [Added.NEW] * 100


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
    turn, told = tmp_path / "turn", Queue()
    with closing(Recorder(ledger, TurnThatFailsOnce(turn))) as recorder, turn.open("ab") as other:
        # Another receiver has its turn; one waits for it, and all others behind that one.
        fcntl.flock(other, fcntl.LOCK_EX)
        recorder.keep(Arriving(arrived(0)), told.put)
        until(lambda: threads_that_wait_for(turn), seconds=30)
        for number in range(1, 20):
            recorder.keep(Arriving(arrived(number)), told.put)
        fcntl.flock(other, fcntl.LOCK_UN)

        first, *behind = [told.get(timeout=60) for _ in range(20)]
        (after,) = keep_at_once(recorder, [arrived(1)])

    assert first is Added.NEW
    assert [type(each) for each in behind] == [OSError] * 19
    assert after is Added.NEW
    assert len(instances.of_study(ledger, STUDY)) == 2


def threads_that_wait_for(file):
    """Return the lines of the kernel that say so (proc_locks(5))."""
    inode = file.stat().st_ino
    lines = Path("/proc/locks").read_text().splitlines()
    return [line for line in lines if " -> " in line and f":{inode} " in line]
