"""What is durable is answered for before it is filed, and filed whatever happens then."""

import errno
import fcntl
import os
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import select as rows_of

from node import recovery
from node.entries import Entries
from node.keeping import Keeping
from node.landed import as_message
from node.landing import Landing, folder_of, write_about
from node.ledger import instances, schema
from node.ledger.engine import reading
from node.places import path_of
from node.recorder import Recorder
from node.recorder_link import link_ends
from node.recovery import open_landing
from node.steps import at_once
from node.task import Reception
from tests.build_landed import (
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
NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)


class TurnThatFails:
    """The file of the turns, which cannot be locked until it is mended."""

    def __init__(self, file):
        self._file = file
        self.is_mended = False

    def fileno(self):
        if not self.is_mended:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return self._file.fileno()


@pytest.fixture
def landing(tmp_path):
    with closing(Landing(tmp_path)) as landing:
        yield landing


@pytest.fixture
def turn(tmp_path):
    with (tmp_path / "turn").open("ab") as turn:
        yield turn


@pytest.fixture
def link(ledger, tmp_path, turn, landing):
    with recording(ledger, tmp_path, turn, landing) as link:
        until(lambda: len(landing), seconds=30)
        yield link


def image_of(number, **changes):
    return encoded(image(f"1.2.3.4.{number}", **changes))


def at(moment):
    return Reception(called_ae="PELLUCID", calling_ae="CT1", address="10.0.0.1", at=moment)


def known(ledger):
    return {one.sop_instance_uid: one.path for one in instances.of_study(ledger, STUDY)}


def receptions(ledger):
    with reading(ledger) as connection:
        return connection.execute(rows_of(schema.reception)).all()


def filled(data):
    """Return the files of the landing that are no spares."""
    found = []
    for path in folder_of(data).iterdir():
        with suppress(FileNotFoundError):  # filed just now
            found += [path] if path.stat().st_size else []
    return found


def left_behind(data, made, content=None, number=1):
    """Leave what was answered for as a recorder does that dies before it is filed."""
    part = data / "objects" / "parts" / made.part.name
    with closing(Landing(data)) as landing:
        at_once(landing.refilling())
        spare = landing.take()
    write_about(spare.descriptor, as_message(number, made))
    os.write(spare.descriptor, part.read_bytes() if content is None else content)
    os.close(spare.descriptor)
    part.unlink()
    return spare.path


def start(ledger, data, turn):
    """Begin as a recorder does."""
    how = Keeping(data=data, device_uid=DEVICE_UID, strict=True)
    ours, theirs = link_ends()
    with (
        closing(ours),
        closing(theirs),
        closing(open_landing(data)) as landing,
        closing(Entries(ledger, turn)) as entries,
    ):
        owed = recovery.left_behind(landing, ledger, how)
        with closing(Recorder(entries, how, theirs, owed=owed)) as recorder:
            recorder.start()


def test_what_has_landed_is_answered_for_before_it_is_in_the_ledger(ledger, link, tmp_path):
    sent = [landed_in_memory(link.slots, tmp_path, number) for number in range(5)]
    with (tmp_path / "turn").open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)

        told = keep_at_once(link, sent)

        assert known(ledger) == {}
        assert len(filled(tmp_path)) == 5
    assert told == [SUCCESS] * 5
    until(lambda: not filled(tmp_path), seconds=30)
    assert len(known(ledger)) == 5


@pytest.mark.parametrize("size", [0, 1 << 19])
def test_memory_may_be_written_over_as_soon_as_it_is_told(ledger, link, tmp_path, size):
    sent = [
        landed_in_memory(link.slots, tmp_path, number, image_of(number, **pixels(size)))
        for number in range(30)
    ]
    before = {each.sop_instance_uid: bytes(held(link, each)) for each in sent}

    assert keep_at_once(link, sent) == [SUCCESS] * 30
    for each in sent:
        held(link, each)[:] = bytes(each.part.size)

    until(lambda: not filled(tmp_path), seconds=30)
    assert {uid: path.read_bytes() for uid, path in known(ledger).items()} == before


def test_what_is_refused_leaves_nothing_where_it_would_have_landed(link, tmp_path):
    cut = landed_in_memory(link.slots, tmp_path, 1, image_of(1)[:-5])

    assert keep_at_once(link, [cut]) == [REFUSED]
    assert filled(tmp_path) == []


def test_the_later_of_two_versions_counts_though_both_wait_to_be_filed(ledger, link, tmp_path):
    versions = [
        landed_in_memory(link.slots, tmp_path, 1, image_of(1, **pixels(size)))
        for size in (2048, 4096)
    ]
    with (tmp_path / "turn").open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        for each in versions:
            assert keep_at_once(link, [each]) == [SUCCESS]

    until(lambda: not filled(tmp_path), seconds=30)
    assert {path.stem for path in known(ledger).values()} == {versions[1].part.digest}


def test_the_same_content_again_leaves_nothing_but_a_row(ledger, link, tmp_path):
    for _ in range(2):
        assert keep_at_once(link, [landed_in_memory(link.slots, tmp_path, 1)]) == [SUCCESS]
        until(lambda: not filled(tmp_path), seconds=30)

    assert len(known(ledger)) == 1
    assert len(receptions(ledger)) == 2
    assert list((tmp_path / "objects" / "parts").iterdir()) == []


def test_what_a_ledger_may_not_take_is_answered_for_when_it_has(ledger, link, tmp_path):
    strange = at(datetime.now(UTC))
    object.__setattr__(strange, "calling_ae", "CT\x7f1")
    made = landed_in_memory(link.slots, tmp_path, 1)
    object.__setattr__(made, "reception", strange)

    assert keep_at_once(link, [made]) == [SUCCESS]
    assert len(known(ledger)) == 1


def test_what_cannot_be_filed_is_tried_again_and_nobody_is_told_early_then(
    ledger, landing, tmp_path, turn, caplog
):
    failing = TurnThatFails(turn)
    with recording(ledger, tmp_path, failing, landing) as link:
        until(lambda: len(landing), seconds=30)
        first = keep_at_once(link, [landed_in_memory(link.slots, tmp_path, 1)])
        until(lambda: "cannot be brought into store and ledger" in caplog.text, seconds=30)
        second = keep_at_once(link, [landed_in_memory(link.slots, tmp_path, 2)])
        failing.is_mended = True

        until(lambda: not filled(tmp_path), seconds=30)
        third = keep_at_once(link, [landed_in_memory(link.slots, tmp_path, 3)])

    assert (first, second, third) == ([SUCCESS], [OUT_OF_RESOURCES], [SUCCESS])
    assert known(ledger).keys() == {"1.2.3.4.1", "1.2.3.4.3"}


def test_what_cannot_be_filed_before_the_end_is_filed_by_the_next_start(
    ledger, landing, tmp_path, turn
):
    with recording(ledger, tmp_path, TurnThatFails(turn), landing) as link:
        until(lambda: len(landing), seconds=30)
        sent = [landed_in_memory(link.slots, tmp_path, number) for number in range(20)]
        assert keep_at_once(link, sent) == [SUCCESS] * 20
    landing.close()
    assert known(ledger) == {}

    start(ledger, tmp_path, turn)
    assert len(known(ledger)) == 20
    assert filled(tmp_path) == []


def test_what_was_left_behind_is_filed_once(ledger, tmp_path, turn):
    left = left_behind(tmp_path, landed(tmp_path, 1))
    content = left.read_bytes()

    start(ledger, tmp_path, turn)

    (path,) = known(ledger).values()
    assert path.read_bytes() == content
    assert not left.exists()
    start(ledger, tmp_path, turn)
    assert len(receptions(ledger)) == 1


def test_what_was_filed_and_kept_its_first_name_is_not_received_again(ledger, tmp_path, turn):
    made = landed(tmp_path, 1)
    left = left_behind(tmp_path, made)
    content = left.read_bytes()
    start(ledger, tmp_path, turn)
    # Its part is there again, for the builder alone.
    (tmp_path / "objects" / "parts" / made.part.name).write_bytes(content)
    left_behind(tmp_path, made)

    start(ledger, tmp_path, turn)

    assert filled(tmp_path) == []
    assert len(receptions(ledger)) == 1


def test_what_is_not_whole_goes(ledger, tmp_path, turn):
    made = landed(tmp_path, 1)
    content = (tmp_path / "objects" / "parts" / made.part.name).read_bytes()
    left_behind(tmp_path, made, content[:-1])
    for number, wrong in enumerate((content[:-1] + b"?", b"")):
        left_behind(tmp_path, landed(tmp_path, number), wrong)

    start(ledger, tmp_path, turn)

    assert known(ledger) == {}
    assert list(folder_of(tmp_path).iterdir()) == []


def test_versions_are_filed_in_the_order_in_which_they_came(ledger, tmp_path, turn):
    moment = NOW.timestamp()
    versions = [
        landed(tmp_path, 1, image_of(1, **pixels(size)), reception=at(NOW))
        for size in (2048, 4096, 6144)
    ]
    for number in (2, 0, 1):
        # A clock that does not tell them apart.
        os.utime(left_behind(tmp_path, versions[number], number=number), (moment, moment))

    start(ledger, tmp_path, turn)

    assert {path.stem for path in known(ledger).values()} == {versions[2].part.digest}


def test_a_file_that_cannot_be_read_stays_and_costs_no_other(
    ledger, tmp_path, turn, monkeypatch, caplog
):
    bad = left_behind(tmp_path, landed(tmp_path, 1))
    left_behind(tmp_path, landed(tmp_path, 2))
    read = Path.read_bytes

    def failing(path):
        if path == bad:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", failing)
    start(ledger, tmp_path, turn)

    assert known(ledger).keys() == {"1.2.3.4.2"}
    assert filled(tmp_path) == [bad]
    assert "stays where it has landed" in caplog.text


def test_what_is_owed_is_filed_though_a_sweep_took_its_place(ledger, landing, tmp_path, turn):
    failing = TurnThatFails(turn)
    with recording(ledger, tmp_path, failing, landing) as link:
        until(lambda: len(landing), seconds=30)
        made = landed_in_memory(link.slots, tmp_path, 1)
        assert keep_at_once(link, [made]) == [SUCCESS]
        place = path_of(tmp_path, made.part.digest)
        until(place.exists, seconds=30)
        place.unlink()
        failing.is_mended = True

        until(lambda: not filled(tmp_path), seconds=30)

    assert [path.read_bytes() for path in known(ledger).values()] == [place.read_bytes()]


def test_who_asks_amid_the_last_filing_is_answered(ledger, link, tmp_path):
    answered = []
    with (tmp_path / "turn").open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        assert keep_at_once(link, [landed_in_memory(link.slots, tmp_path, 1)]) == [SUCCESS]
        until(lambda: threads_that_wait_for(tmp_path / "turn"), seconds=30)
        link.await_filed(answered.append)

    hear(link, lambda: answered)
    assert len(known(ledger)) == 1


def test_who_asks_is_answered_when_all_that_came_before_is_filed(ledger, link, tmp_path):
    answered = []
    for number in range(5):
        keep_at_once(link, [landed_in_memory(link.slots, tmp_path, number)])
        link.await_filed(lambda _: answered.append(len(known(ledger))))

    hear(link, lambda: len(answered) == 5)

    assert all(found >= number for number, found in enumerate(answered, start=1))


def test_what_a_ledger_does_not_take_stays_for_another_start(ledger, tmp_path, turn):
    left = left_behind(tmp_path, landed(tmp_path, 1))

    start(ledger, tmp_path, TurnThatFails(turn))
    assert left.exists()
    start(ledger, tmp_path, turn)

    assert len(known(ledger)) == 1
    assert not left.exists()


def test_what_has_lost_its_attributes_stays_and_is_told(ledger, tmp_path, turn, caplog):
    left = left_behind(tmp_path, landed(tmp_path, 1))
    os.removexattr(left, "user.pellucid.landed")

    start(ledger, tmp_path, turn)

    assert left.exists()
    (told,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert told.reason == "its extended attributes are lost: copy it again, with them"


def test_one_alone_has_the_landing(landing, tmp_path):
    with pytest.raises(BlockingIOError):
        Landing(tmp_path)
    assert open_landing(tmp_path) is None
    landing.close()

    with closing(open_landing(tmp_path)) as next_one:
        assert next_one.is_usable()


def test_spares_are_empty_files_that_go_with_the_landing(landing, tmp_path):
    at_once(landing.refilling())
    spare = landing.take()
    assert spare.path.read_bytes() == b""
    assert not landing.is_low()
    os.close(spare.descriptor)
    spare.path.unlink()

    landing.close()

    assert list(folder_of(tmp_path).iterdir()) == []


def test_there_are_no_spares_where_a_disk_does_not_make_their_names_durable(
    landing, tmp_path, monkeypatch
):
    def failing(descriptor):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", failing)
    with suppress(OSError):
        at_once(landing.refilling())

    assert landing.take() is None
    assert landing.is_low()
    assert list(folder_of(tmp_path).iterdir()) == []


@pytest.mark.parametrize("call", ["setxattr", "link"])
def test_a_file_system_that_lacks_something_is_seen(landing, tmp_path, monkeypatch, call):
    assert landing.is_usable()

    def lacking(*_):
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

    monkeypatch.setattr(os, call, lacking)

    assert not landing.is_usable()
    assert list(folder_of(tmp_path).iterdir()) == []
