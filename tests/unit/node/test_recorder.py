"""What has landed is kept and entered together; each is told what came of it, none suffers."""

import errno
import fcntl
import os
import select
import threading
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from sqlalchemy import select as rows_of

from node.entries import Entries
from node.keeping import Keeping
from node.landed import as_message, from_message
from node.ledger import instances, schema
from node.ledger.engine import reading
from node.recorder import Recorder
from node.recorder_link import LONGEST_MESSAGE, RecorderGoneError, RecorderLink, link_ends
from node.task import Reception
from tests.build_landed import (
    SOON,
    STUDY,
    hear,
    held,
    keep_at_once,
    landed,
    landed_in_memory,
    pixels,
    recording,
    threads_that_wait_for,
)
from tests.build_wire import DEVICE_UID, encoded, image
from tests.wait import until

SUCCESS, OUT_OF_RESOURCES, REFUSED = 0x0000, 0xA700, 0xC000
#: Of pixels: more than is kept beside others.
LARGE = 3 << 20


@pytest.fixture
def link(ledger, tmp_path):
    with (tmp_path / "turn").open("ab") as turn, recording(ledger, tmp_path, turn) as link:
        yield link


def parts(data):
    return list((data / "objects" / "parts").iterdir())


def test_a_message_says_all_that_is_known_of_what_has_landed(tmp_path):
    made = landed(tmp_path, 1)

    assert from_message(as_message(7, made)) == (7, made)
    longest = replace(made.reception, called_ae="Ж" * 16, calling_ae="Ж" * 16, address="a" * 64)
    assert len(as_message(1 << 60, replace(made, reception=longest))) < LONGEST_MESSAGE


def test_what_lands_at_once_is_all_recorded(ledger, link, tmp_path):
    told = keep_at_once(link, [landed(tmp_path, number) for number in range(200)])

    assert told == [SUCCESS] * 200
    found = instances.of_study(ledger, STUDY)
    assert len(found) == 200
    assert all(each.path.is_file() for each in found)
    assert parts(tmp_path) == []


@pytest.mark.parametrize("size", [0, 1 << 19])
def test_what_lands_in_memory_is_in_its_file_when_that_is_told(ledger, link, tmp_path, size):
    made = [
        landed_in_memory(
            link.slots, tmp_path, number, encoded(image(f"1.2.3.4.{number}", **pixels(size)))
        )
        for number in range(30)
    ]
    before = {each.sop_instance_uid: bytes(held(link, each)) for each in made}

    told = keep_at_once(link, made)
    for each in made:
        # As the next arrival would.
        held(link, each)[:] = bytes(each.part.size)

    assert told == [SUCCESS] * 30
    stored = instances.of_study(ledger, STUDY)
    assert {one.sop_instance_uid: one.path.read_bytes() for one in stored} == before
    assert parts(tmp_path) == []


def test_what_is_refused_in_memory_leaves_no_file(ledger, link, tmp_path):
    cut = landed_in_memory(link.slots, tmp_path, 1, encoded(image("1.2.3.4.1"))[:-5])

    assert keep_at_once(link, [cut]) == [REFUSED]
    assert parts(tmp_path) == []


def test_the_same_instance_twice_at_once_is_recorded_once(ledger, link, tmp_path):
    told = keep_at_once(link, [landed(tmp_path, 1), landed(tmp_path, 1)])

    assert told == [SUCCESS, SUCCESS]
    assert len(instances.of_study(ledger, STUDY)) == 1
    with reading(ledger) as connection:
        assert len(connection.execute(rows_of(schema.reception)).all()) == 2


def test_what_is_refused_is_told_so_among_the_others_and_leaves_nothing(ledger, link, tmp_path):
    cut = landed(tmp_path, 9, encoded(image("1.2.3.4.9"))[:-7])

    told = keep_at_once(link, [landed(tmp_path, 1), cut, landed(tmp_path, 2)])

    assert told == [SUCCESS, REFUSED, SUCCESS]
    assert len(instances.of_study(ledger, STUDY)) == 2
    assert parts(tmp_path) == []


def test_what_cannot_be_found_is_refused_alone(link, tmp_path):
    lost = landed(tmp_path, 9)
    (tmp_path / "objects" / "parts" / lost.part.name).unlink()

    assert keep_at_once(link, [landed(tmp_path, 1), lost]) == [SUCCESS, OUT_OF_RESOURCES]


def test_what_is_large_is_kept_beside_what_is_small(ledger, link, tmp_path):
    large = [
        landed(tmp_path, number, encoded(image(f"1.2.3.4.{number}", **pixels(LARGE))))
        for number in (8, 9)
    ]

    told = keep_at_once(link, [large[0], landed(tmp_path, 1), large[1]])

    assert told == [SUCCESS] * 3
    assert len(instances.of_study(ledger, STUDY)) == 3
    assert keep_at_once(link, [landed(tmp_path, 2)]) == [SUCCESS]


def test_what_is_large_is_kept_before_the_recorder_ends(ledger, tmp_path):
    large = landed(tmp_path, 9, encoded(image("1.2.3.4.9", **pixels(LARGE))))
    with (tmp_path / "turn").open("ab") as turn, recording(ledger, tmp_path, turn) as link:
        link.keep(large, lambda status: None)

    assert len(instances.of_study(ledger, STUDY)) == 1


def test_a_wake_up_that_comes_late_is_seen_and_over(ledger, tmp_path):
    ours, theirs = link_ends()
    how = Keeping(data=tmp_path, device_uid=DEVICE_UID, strict=True)
    with closing(ours), closing(theirs), (tmp_path / "turn").open("ab") as turn:
        recorder = Recorder(Entries(ledger, turn), how, theirs)
        with closing(recorder):
            thread = threading.Thread(target=recorder.run)
            thread.start()
            # As of something large that was answered for before its thread could say so.
            os.eventfd_write(recorder._wake, 1)
            try:
                until(lambda: not select.select([recorder._wake], [], [], 0)[0], seconds=20)
            finally:
                ours.close()
                thread.join(SOON)


def test_one_that_cannot_be_written_fails_alone(ledger, link, tmp_path, caplog):
    nobody = Reception(called_ae="PELLUCID", calling_ae=None, address="", at=datetime.now(UTC))
    impossible = landed(tmp_path, 1, reception=nobody)

    told = keep_at_once(link, [landed(tmp_path, 2), impossible, landed(tmp_path, 3)])

    assert told == [SUCCESS, OUT_OF_RESOURCES, SUCCESS]
    assert len(instances.of_study(ledger, STUDY)) == 2
    # What the values were is nobody's business who reads an error.
    assert "instance refused" in caplog.text
    assert "CANARY" not in caplog.text


def test_what_waits_is_kept_before_the_recorder_ends(ledger, tmp_path):
    with (tmp_path / "turn").open("ab") as turn, recording(ledger, tmp_path, turn) as link:
        for number in range(50):
            link.keep(landed(tmp_path, number), lambda status: None)

    assert len(instances.of_study(ledger, STUDY)) == 50


def test_what_is_on_its_way_is_kept_though_answers_are_unread(ledger, tmp_path):
    path = tmp_path / "turn"
    with (
        path.open("ab") as turn,
        path.open("ab") as other,
        recording(ledger, tmp_path, turn) as link,
    ):
        link.keep(landed(tmp_path, 0), lambda status: None)
        until(lambda: instances.of_study(ledger, STUDY), seconds=30)
        fcntl.flock(other, fcntl.LOCK_EX)
        for number in range(1, 30):
            link.keep(landed(tmp_path, number), lambda status: None)
        until(lambda: threads_that_wait_for(path), seconds=30)
        link.close()
        fcntl.flock(other, fcntl.LOCK_UN)

    assert len(instances.of_study(ledger, STUDY)) == 30


def test_more_than_may_be_on_its_way_waits_here_and_blocks_nobody(tmp_path):
    ours, theirs = link_ends()
    with closing(RecorderLink(ours)) as link, closing(theirs):
        # Far more than the connection holds: nobody reads at the other end.
        made = landed(tmp_path, 1)
        for _ in range(5000):
            link.keep(made, lambda status: None)

        assert len(drained(theirs.connection)) == 64


def drained(connection):
    messages = []
    while select.select([connection], [], [], 0)[0]:
        messages.append(connection.recv(LONGEST_MESSAGE))
    return messages


def test_a_recorder_that_is_gone_is_noticed(tmp_path):
    ours, theirs = link_ends()
    with closing(RecorderLink(ours)) as link:
        link.keep(landed(tmp_path, 1), lambda status: None)
        theirs.close()

        with pytest.raises((RecorderGoneError, ConnectionError)):
            link.hear()


class TurnThatFails:
    """The file of the turns: after the first turn it cannot be locked until it is mended."""

    def __init__(self, file):
        self._file = file
        self.is_mended = False
        #: Each turn asks for it twice, to lock and to unlock.
        self._asked = 0

    def fileno(self):
        self._asked += 1
        if self._asked > 2 and not self.is_mended:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return self._file.fileno()


def test_all_that_wait_are_told_when_the_turn_cannot_be_had(ledger, tmp_path):
    path, told = tmp_path / "turn", []
    with (
        path.open("ab") as file,
        path.open("ab") as other,
        recording(ledger, tmp_path, turn := TurnThatFails(file)) as link,
    ):
        # Another recorder has its turn; one waits for it, and all others behind that one.
        fcntl.flock(other, fcntl.LOCK_EX)
        link.keep(landed(tmp_path, 0), told.append)
        until(lambda: threads_that_wait_for(path), seconds=30)
        for number in range(1, 20):
            link.keep(landed(tmp_path, number), told.append)
        fcntl.flock(other, fcntl.LOCK_UN)

        hear(link, lambda: len(told) == 20)
        turn.is_mended = True
        (after,) = keep_at_once(link, [landed(tmp_path, 1)])

    assert told == [SUCCESS, *[OUT_OF_RESOURCES] * 19]
    assert after == SUCCESS
    assert len(instances.of_study(ledger, STUDY)) == 2
