"""A network that cuts what a modality sends: what was acknowledged is kept, and nothing half is."""

import random
import sqlite3
import uuid
from contextlib import closing

import pytest

from tests.build_wire import encoded, image
from tests.fault.kept import known_datasets
from tests.fault.pdu import Connection, associate_rq, release_rq, store_pdus
from tests.fault.proxy import Cut, Line, Proxy, Way, only_first
from tests.wait import until

SEED = 29
#: Of an image that is sent in several PDUs.
PIECE = 512
#: Of a PDU, and of the presentation data value in it (PS3.8 9.3.5).
HEADS = 12
BEFORE_AN_ASSOCIATION = {
    "at once": (Way.UP, lambda at: 0),
    "in the request": (Way.UP, lambda at: at["command"] - 1),
}
BEFORE_THE_RESPONSE = {
    "after the request for an association": (Way.UP, lambda at: at["command"]),
    "in the acceptance": (Way.DOWN, lambda at: at["response"] // 2),
    "after the acceptance": (Way.DOWN, lambda at: at["response"]),
    "in the head of a PDU": (Way.UP, lambda at: at["command"] + 3),
    "in the command": (Way.UP, lambda at: (at["command"] + at["data"]) // 2),
    "after the command": (Way.UP, lambda at: at["data"]),
    "in the data set": (Way.UP, lambda at: (at["data"] + at["end"]) // 2),
    "between two PDUs of the data set": (Way.UP, lambda at: at["data"] + PIECE + HEADS),
    "before the last byte": (Way.UP, lambda at: at["end"] - 1),
    "after the last byte": (Way.UP, lambda at: at["end"]),
    "in the response": (Way.DOWN, lambda at: at["answered"] - 1),
}
AFTER_THE_RESPONSE = {
    "in the release": (Way.UP, lambda at: at["end"] + 5),
    "after the release": (Way.UP, lambda at: at["end"] + len(release_rq())),
    "in the answer to the release": (Way.DOWN, lambda at: at["answered"] + 5),
}
HARD = pytest.mark.parametrize("hard", [False, True], ids=["closed", "reset"])


def new_image():
    """Return an image that nobody has, as long as every other one."""
    return image(f"2.25.{uuid.uuid4().int | 1 << 127}")


def send(port, images):
    """Send over one association until it ends; return those that were acknowledged."""
    acknowledged = []
    with Connection(port) as connection:
        if not connection.associate():
            return []
        for message, one in enumerate(images, start=1):
            if connection.store(one, message=message, size=PIECE) != 0x0000:
                return acknowledged
            acknowledged.append(one)
        connection.release()
    return acknowledged


@pytest.fixture(scope="module")
def at(target):
    """The byte at which each part of an exchange of one image begins, in its own way."""
    sent = new_image()
    command, *data = store_pdus(sent, size=PIECE)
    with Proxy(target.port) as proxy:
        assert send(proxy.port, []) == []
        assert send(proxy.port, [sent]) == [sent]
        until(lambda: all(one.over for one in proxy.passages), seconds=20)
        empty, whole = (one.passed for one in proxy.passages)
    start, release = len(associate_rq()), len(release_rq())
    end = start + len(command) + sum(map(len, data))
    assert (empty[Way.UP], whole[Way.UP]) == (start + release, end + release)
    return {
        "command": start,
        "data": start + len(command),
        "end": end,
        "response": empty[Way.DOWN] - release,
        "answered": whole[Way.DOWN] - release,
    }


@pytest.mark.fault  # the receiver gives a connection ten seconds to become an association
@HARD
@pytest.mark.parametrize("place", BEFORE_AN_ASSOCIATION)
def test_a_connection_that_is_cut_before_its_association_leaves_nothing(target, at, place, hard):
    way, after = BEFORE_AN_ASSOCIATION[place]

    assert send_and_cut(target, [new_image()], Cut(way=way, after=after(at), hard=hard)) == []


@HARD
@pytest.mark.parametrize("place", BEFORE_THE_RESPONSE)
def test_a_store_that_is_cut_is_not_acknowledged_and_a_retry_ends_in_one(target, at, place, hard):
    way, after = BEFORE_THE_RESPONSE[place]

    assert send_and_cut(target, [new_image()], Cut(way=way, after=after(at), hard=hard)) == []


@HARD
@pytest.mark.parametrize("place", AFTER_THE_RESPONSE)
def test_a_store_whose_release_is_cut_is_acknowledged_and_kept(target, at, place, hard):
    way, after = AFTER_THE_RESPONSE[place]
    sent = [new_image()]

    assert send_and_cut(target, sent, Cut(way=way, after=after(at), hard=hard)) == sent


def test_images_that_are_cut_at_any_byte(target, at):
    cut_anywhere(target, at, count=10)


@pytest.mark.fault
def test_images_that_are_cut_at_any_byte_300_times(target, at):
    cut_anywhere(target, at, count=300)


def cut_anywhere(target, at, *, count):
    """Send three images over each of so many connections, each cut at a random byte."""
    chance = random.Random(SEED)
    acknowledged = []
    for _ in range(count):
        way = chance.choice(list(Way))
        parts = {Way.UP: ("command", "end"), Way.DOWN: ("response", "answered")}
        start, end = (at[part] for part in parts[way])
        after = chance.randrange(start, start + 3 * (end - start))
        cut = Cut(way=way, after=after, hard=chance.random() < 0.5)
        acknowledged.append(len(send_and_cut(target, [new_image() for _ in range(3)], cut)))

    assert set(acknowledged) >= {0, 1, 2}, "the cuts came before, between and behind the images"


def send_and_cut(target, images, cut):
    """Send through a network that cuts; require the promises kept; return what was acknowledged."""
    before = known_datasets(target.data)
    sent = {encoded(one) for one in images}
    with Proxy(target.port, only_first(Line(cut=cut))) as proxy:
        acknowledged = send(proxy.port, images)
        until(lambda: proxy.passages[0].over, seconds=20)
        assert proxy.cuts == [cut]
    target.has_nothing_left_over()
    kept = known_datasets(target.data) - before
    assert {encoded(one) for one in acknowledged} <= kept <= sent

    assert send(target.port, images) == images

    assert known_datasets(target.data) - before == sent
    assert [rows_of(target.data, one) for one in images] == [(1, 0)] * len(images)
    return acknowledged


def rows_of(data, one):
    """Return how many instances and how many conflicts the ledger has of this UID."""
    with closing(sqlite3.connect(data / "ledger.sqlite", timeout=30)) as ledger:
        counts = (
            ledger.execute(
                f"SELECT count(*) FROM {table} WHERE sop_instance_uid = ?",
                (str(one.SOPInstanceUID),),
            ).fetchone()
            for table in ("instance", "instance_conflict")
        )
        return tuple(count for (count,) in counts)


@pytest.mark.parametrize(
    ("line", "least"),
    [(Line(piece=7), 1000), (Line(delay_seconds=0.02), 8)],
    ids=["seven bytes at a time", "late"],
)
def test_a_slow_network_costs_nothing_but_time(target, line, least):
    sent = [new_image() for _ in range(3)]
    with Proxy(target.port, lambda _: line) as proxy:
        assert send(proxy.port, sent) == sent
    assert proxy.passages[0].pieces >= least
    target.keeps(sent)
    target.has_nothing_left_over()
