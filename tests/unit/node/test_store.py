"""The store: whole files or none."""

import errno
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from blake3 import blake3

from node import store
from node.disk import Write, fulfilled
from node.errors import StorageFullError
from node.ledger import files as ledger_files
from node.part import Part
from node.places import path_of
from node.slots import PartInMemory, Slots
from node.steps import at_once
from node.sweep import remove_orphans, sweep_at_start
from node.unkept import Unkept
from tests.build_ledger import arrive, new_ledger, write_instance

LATER = datetime.now(UTC) + timedelta(days=3)


def files(root):
    return sorted(path for path in (root / "objects").rglob("*") if path.is_file())


def test_content_lies_under_its_hash(tmp_path):
    stored = store.write_durably(tmp_path, b"content")

    assert stored.digest == blake3(b"content").hexdigest()
    assert stored.path == tmp_path / f"objects/blake3/{stored.digest[:2]}/{stored.digest}.dcm"
    assert stored.path.read_bytes() == b"content"
    assert stored.path == path_of(tmp_path, stored.digest)


def test_the_same_content_is_stored_once(tmp_path):
    first = store.write_durably(tmp_path, b"content")

    assert store.write_durably(tmp_path, b"content") == first
    assert files(tmp_path) == [first.path]


def test_content_that_comes_again_mends_what_the_disk_has_spoiled(tmp_path):
    first = store.write_durably(tmp_path, b"content")
    first.path.write_bytes(b"rotten!")

    again = store.write_durably(tmp_path, b"content")

    assert again == first
    assert first.path.read_bytes() == b"content"


def test_a_part_that_is_not_finished_leaves_nothing(tmp_path):
    with Part(tmp_path) as part:
        part.write(b"head")

    assert files(tmp_path) == []


def test_a_finished_part_shows_what_was_written_and_leaves_nothing_unless_it_is_kept(tmp_path):
    with Part(tmp_path) as part:
        part.write(b"head")
        part.write(memoryview(b"body"))
        finished = part.finish()

    with Unkept(tmp_path, finished) as unkept, unkept.content() as content:
        assert bytes(content) == b"headbody"

    assert files(tmp_path) == []


def test_a_finished_part_that_cannot_be_opened_leaves_nothing(tmp_path, monkeypatch):
    with Part(tmp_path) as part:
        finished = part.finish()
    monkeypatch.setattr(os, "open", exhausted)

    with pytest.raises(StorageFullError, match="no room"):
        Unkept(tmp_path, finished)

    assert files(tmp_path) == []


SIZES = [0, 1, 4096, (1 << 17) - 1, 1 << 17, (1 << 17) + 1, 525_000, 1 << 20]


@pytest.mark.parametrize("size", SIZES)
def test_what_is_in_memory_is_kept_as_it_is(tmp_path, size):
    finished, memory = in_memory(os.urandom(size))

    with Unkept(tmp_path, finished, memory) as unkept, unkept.content() as content:
        stored = at_once(unkept.keeping())

    assert stored.path.read_bytes() == content == memory[:size]
    assert files(tmp_path) == [stored.path]


@pytest.mark.parametrize("size", [size for size in SIZES if size >= 1 << 17])
def test_a_file_system_that_takes_nothing_directly_has_it_copied(tmp_path, monkeypatch, size):
    finished, memory = in_memory(os.urandom(size))
    monkeypatch.setattr("node.steps.fulfilled", no_write(OSError(errno.EINVAL, "not aligned")))

    with Unkept(tmp_path, finished, memory) as unkept:
        stored = at_once(unkept.keeping())

    assert stored.path.read_bytes() == memory[:size]


def test_a_disk_that_fails_to_write_what_is_in_memory_leaves_nothing(tmp_path, monkeypatch):
    finished, memory = in_memory(os.urandom(525_000))
    monkeypatch.setattr("node.steps.fulfilled", no_write(OSError(errno.ENOSPC, "full")))

    with (
        pytest.raises(StorageFullError, match="no room"),
        Unkept(tmp_path, finished, memory) as unkept,
    ):
        at_once(unkept.keeping())

    assert files(tmp_path) == []


def test_what_is_in_memory_and_not_kept_was_never_in_a_file(tmp_path):
    finished, memory = in_memory(b"content")

    with Unkept(tmp_path, finished, memory) as unkept, unkept.content() as content:
        assert content == b"content"

    assert list(tmp_path.rglob("*")) == []


def in_memory(content):
    """Return a finished part, and pages that hold its content and more."""
    slots = Slots()
    part = PartInMemory(slots, slots.take())
    part.write(content)
    return part.finish(), slots.content(part.finish().slot)


def no_write(failure):
    """Return what fulfils wishes in the place of the disk, and fails to write directly."""
    return lambda wish: failure if isinstance(wish, Write) else fulfilled(wish)


def exhausted(*_arguments):
    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


def test_a_finished_file_is_taken_in(tmp_path):
    (tmp_path / "made.dcm").write_bytes(b"result")

    assert store.keep(tmp_path, tmp_path / "made.dcm") == store.write_durably(tmp_path, b"result")


def test_under_the_floor_nothing_is_written(tmp_path):
    with pytest.raises(StorageFullError, match="must remain"):
        store.write_durably(tmp_path, b"content", floor_bytes=1 << 62)

    assert not (tmp_path / "objects").exists()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EMFILE])
def test_a_full_disk_leaves_no_partial_file(tmp_path, monkeypatch, number):
    def full(_descriptor):
        raise OSError(number, os.strerror(number))

    store.write_durably(tmp_path, b"earlier")
    monkeypatch.setattr(os, "fsync", full)

    with pytest.raises(StorageFullError):
        store.write_durably(tmp_path, b"content")

    monkeypatch.undo()
    assert [path.read_bytes() for path in files(tmp_path)] == [b"earlier"]
    assert store.write_durably(tmp_path, b"content").path.read_bytes() == b"content"


def test_file_and_folder_are_synced_before_and_after_the_rename(tmp_path, monkeypatch):
    synced = []
    sync = os.fsync

    def watched(descriptor):
        synced.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        sync(descriptor)

    store.make_folders(tmp_path)
    monkeypatch.setattr(os, "fsync", watched)
    stored = store.write_durably(tmp_path, b"content")

    part, folder = synced[-2:]
    assert part.endswith(".part")
    assert folder == str(stored.path.parent)


def test_a_start_makes_every_folder_before_anyone_writes_into_one(tmp_path):
    engine = new_ledger(tmp_path)

    sweep_at_start(engine, tmp_path)
    engine.dispose()

    folders = [path.name for path in (tmp_path / "objects" / "blake3").iterdir()]
    assert sorted(folders) == [f"{number:02x}" for number in range(256)]


def test_a_start_deletes_parts_and_names_lost_files(tmp_path):
    engine = new_ledger(tmp_path)
    whole = store.write_durably(tmp_path, b"content")
    (tmp_path / "objects" / "parts" / "x.part").write_bytes(b"con")
    lost = arrive(engine, write_instance(tmp_path / "received", "1.2.3"))
    lost.path.unlink()

    swept = sweep_at_start(engine, tmp_path)
    engine.dispose()

    assert swept.parts == 1
    assert swept.missing == (lost.path,)
    assert files(tmp_path) == [whole.path]


def test_the_part_of_a_process_that_died_goes_after_an_hour(tmp_path):
    engine = new_ledger(tmp_path)
    sweep_at_start(engine, tmp_path)
    left = tmp_path / "objects" / "parts" / "x.part"
    left.write_bytes(b"con")

    remove_orphans(engine, tmp_path, datetime.now(UTC))
    kept = left.exists()
    remove_orphans(engine, tmp_path, datetime.now(UTC) + timedelta(hours=2))
    engine.dispose()

    assert kept
    assert not left.exists()


def test_files_without_a_row_go_after_a_day(tmp_path):
    engine = new_ledger(tmp_path)
    orphan = store.write_durably(tmp_path, b"nobody was told Success for this")
    needed = store.keep(tmp_path, write_instance(tmp_path, "1.2.3"))
    arrive(engine, needed.path)

    early = remove_orphans(engine, tmp_path, datetime.now(UTC))
    removed = remove_orphans(engine, tmp_path, LATER)
    known = ledger_files.known_files(engine, [needed.path, orphan.path])
    engine.dispose()

    assert (early, removed) == (0, 1)
    assert files(tmp_path) == [needed.path]
    assert known == {needed.path}


def test_a_file_written_again_is_no_orphan_any_more(tmp_path):
    stored = store.write_durably(tmp_path, b"content")
    os.utime(stored.path, (0, 0))
    moment = datetime.now(UTC) - timedelta(hours=1)
    assert list(store.files_before(tmp_path, moment)) == [stored.path]

    store.write_durably(tmp_path, b"content")

    assert not store.remove_older(stored.path, moment)
    assert stored.path.exists()


def test_files_of_earlier_versions_are_swept_like_the_rest(tmp_path):
    new = store.write_durably(tmp_path, b"content").path
    old = tmp_path / "objects" / "sha256" / "ab" / f"ab{'0' * 62}.dcm"
    old.parent.mkdir(parents=True)
    old.write_bytes(b"older")
    with Part(tmp_path) as part:
        part.write(b"on its way")

        found = set(store.files_before(tmp_path, LATER))

    assert found == {new, old}
