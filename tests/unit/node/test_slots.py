"""Memory for what comes: each piece has one owner, and what is too much goes into a file."""

from datetime import UTC, datetime

import pytest
from blake3 import blake3

from dicom_io.part10 import part10_head
from node.arrival import Arrival
from node.command_set import StoreRequest
from node.errors import StorageFullError
from node.slots import PartInMemory, Slots
from node.task import Reception
from node.unkept import Unkept
from tests.build_wire import EXPLICIT, MR_IMAGE

UID = "1.2.3.4.5"
HEAD = part10_head(MR_IMAGE, UID, EXPLICIT)
MEGABYTE = 1 << 20


@pytest.fixture
def slots():
    return Slots()


def arriving(data, slots, **changes):
    request = StoreRequest(
        message_id=1, sop_class_uid=MR_IMAGE, sop_instance_uid=UID, has_data_set=True
    )
    reception = Reception(
        called_ae="PELLUCID", calling_ae="CT1", address="10.0.0.1", at=datetime.now(UTC)
    )
    settings = {"data": data, "slots": slots, "floor_bytes": 0, **changes}
    return Arrival(request, EXPLICIT, reception, **settings)


def free(slots):
    """Return the numbers of those that can be taken, and give them back."""
    taken = []
    while (number := slots.take()) is not None:
        taken.append(number)
    for number in reversed(taken):
        slots.give_back(number)
    return taken


def content_of(data, slots, part):
    memory = None if part.slot is None else slots.content(part.slot)
    with Unkept(data, part, memory) as unkept, unkept.content() as content:
        return bytes(content)


def test_each_is_taken_once_and_none_is_left(slots):
    taken = free(slots)

    assert sorted(taken) == list(range(32))


def test_they_do_not_overlap(slots):
    for number in range(32):
        slots.content(number)[:] = bytes([number]) * MEGABYTE

    assert all(slots.content(number) == bytes([number]) * MEGABYTE for number in range(32))


def test_the_one_that_is_warm_is_taken_first(slots):
    first, second = slots.take(), slots.take()
    slots.give_back(first)

    assert slots.take() == first
    assert second not in free(slots)


def test_who_gives_one_back_twice_is_refused(slots):
    number = slots.take()
    slots.give_back(number)

    with pytest.raises(ValueError, match="free already"):
        slots.give_back(number)


def test_a_part_holds_what_was_written_and_its_hash(slots):
    part = PartInMemory(slots, slots.take())
    part.write(b"head")
    part.write(memoryview(b"body"))

    assert part.content == b"headbody"
    assert part.finish().digest == blake3(b"headbody").hexdigest()
    assert part.finish().size == 8


@pytest.mark.parametrize("size", [1, 70_000, MEGABYTE - len(HEAD)])
def test_what_fits_lands_in_memory(tmp_path, slots, size):
    arrival = arriving(tmp_path, slots)
    content = b"x" * size
    for start in range(0, size, 65_536):
        arrival.write(memoryview(content)[start : start + 65_536])

    part = arrival.land().part

    assert part.slot is not None
    assert content_of(tmp_path, slots, part) == HEAD + content
    assert list(tmp_path.rglob("*.part")) == []
    arrival.close()
    assert len(free(slots)) == 32


@pytest.mark.parametrize("size", [MEGABYTE - len(HEAD) + 1, 3 * MEGABYTE])
def test_what_does_not_fit_goes_on_into_a_file_and_gives_its_memory_to_others(
    tmp_path, slots, size
):
    arrival = arriving(tmp_path, slots)
    content = b"y" * size
    for start in range(0, size, 100_000):
        arrival.write(memoryview(content)[start : start + 100_000])

    assert len(free(slots)) == 32
    part = arrival.land().part
    assert (part.slot, part.size) == (None, len(HEAD) + size)
    assert part.digest == blake3(HEAD + content).hexdigest()
    assert content_of(tmp_path, slots, part) == HEAD + content
    arrival.close()


def test_who_finds_no_memory_writes_into_a_file(tmp_path, slots):
    for _ in range(32):
        slots.take()
    arrival = arriving(tmp_path, slots)
    arrival.write(memoryview(b"content"))

    part = arrival.land().part

    assert part.slot is None
    assert content_of(tmp_path, slots, part) == HEAD + b"content"
    arrival.close()
    assert free(slots) == []


def test_a_disk_that_is_full_when_memory_ends_refuses_and_nobody_else_loses_memory(
    tmp_path, slots, monkeypatch
):
    def full(*_arguments, **_options):
        raise StorageFullError(28, "full")

    arrival = arriving(tmp_path, slots)
    monkeypatch.setattr("node.arrival.Part", full)
    arrival.write(memoryview(bytes(MEGABYTE)))
    arrival.write(memoryview(bytes(MEGABYTE)))

    assert arrival.land() == 0xA700
    arrival.close()
    assert len(free(slots)) == 32


def test_under_the_floor_nothing_is_taken_into_memory(tmp_path, slots):
    arrival = arriving(tmp_path, slots, floor_bytes=1 << 62)

    assert len(free(slots)) == 32
    assert arrival.land() == 0xA700
    arrival.close()
