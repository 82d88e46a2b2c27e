"""A network that delays, drips, stalls and cuts: what is owed arrives once, what is said holds.

The proxy's seed is fixed, so that the same connections are cut at the same bytes in every run.
"""

from dataclasses import replace
from datetime import timedelta

import pytest
from pydicom.dataset import FileMetaDataset
from sqlalchemy import func, select

from node.config import Peer
from node.deliver import Deliveries, DeliverySettings, Destination
from node.ledger import outbox, schema, tasks
from node.ledger.engine import reading
from node.peer import Timeouts, associate, contexts_for, stored_object
from node.standin import StandInPacs
from node.task import DeliveryState, NewDelivery
from tests.build_ledger import LONG_AGO, new_ledger, ready_task
from tests.build_wire import EXPLICIT, MR_IMAGE, encoded, image
from tests.fault.proxy import Cut, Line, Proxy, Way, cutting, only_first
from tests.orthanc import orthanc
from tests.wait import until

SEED = 29
BATCH = 5
SHARE = 0.1
#: An A-RELEASE-RQ (PS3.8 9.3.6).
RELEASE = 10
IMPATIENT = DeliverySettings(
    calling_ae="PELLUCID",
    base_seconds=0.02,
    cap_seconds=0.1,
    batch=BATCH,
    poll_seconds=0.05,
    timeouts=Timeouts(connect=5.0, association=20.0, response=20.0, network=20.0),
)
PATIENT = replace(IMPATIENT, timeouts=Timeouts(association=300, response=300, network=300))


@pytest.fixture
def engine(tmp_path):
    engine = new_ledger(tmp_path / "node")
    yield engine
    engine.dispose()


def peer_at(port, *, name="pacs", ae_title="STANDIN"):
    return Peer(name=name, ae_title=ae_title, host="127.0.0.1", port=port)


def owe_images(engine, data, *, count, destinations=("pacs",)):
    """Owe as many images to each destination; return the task, and UID to encoded data set."""
    ready_task(engine, data)
    task = tasks.claim(engine, "worker-0", LONG_AGO + timedelta(seconds=2))
    (data / "made").mkdir()
    owed, made = [], {}
    for number in range(count):
        one = image(f"2.25.{number + 1}")
        made[str(one.SOPInstanceUID)] = encoded(one)
        one.file_meta = FileMetaDataset()
        one.file_meta.TransferSyntaxUID = EXPLICIT
        path = data / "made" / f"{number + 1}.dcm"
        one.save_as(path, enforce_file_format=True)
        owed += [
            NewDelivery(
                destination=name,
                sop_class_uid=MR_IMAGE,
                sop_instance_uid=one.SOPInstanceUID,
                path=path,
            )
            for name in destinations
        ]
    assert tasks.finish(engine, task, owed, LONG_AGO + timedelta(seconds=3))
    return task, made


def owed_to(engine, task, name="pacs"):
    return [one for one in outbox.of_task(engine, task.id) if one.destination == name]


def delivered(engine, task, name="pacs"):
    table = schema.delivery.c
    query = select(func.count()).where(
        table.task_id == task.id,
        table.destination == name,
        table.state == DeliveryState.DELIVERED,
    )
    with reading(engine) as connection:
        return connection.scalar(query)


def opening_bytes(proxy, peer, path):
    """Return how long the request for an association is that is to carry this file."""
    with associate(peer, contexts_for([stored_object(path)]), calling_ae="PELLUCID"):
        pass
    until(lambda: proxy.passages[-1].over, seconds=10)
    return proxy.passages.pop().passed[Way.UP] - RELEASE


def whole_passage(proxy, peer, engine, settings=IMPATIENT):
    """Deliver one batch undisturbed; return how many bytes went in each way."""
    assert Destination(engine, peer, settings).deliver_due() == settings.batch
    until(lambda: proxy.passages[-1].over, seconds=10)
    return proxy.passages.pop().passed


def deliver_through_cuts(engine, proxy, peer, task, *, count, seconds):
    """Deliver all through a network that cuts; return how many cuts were amid data."""
    opening = opening_bytes(proxy, peer, owed_to(engine, task)[0].path)
    whole = whole_passage(proxy, peer, engine)
    proxy.plan = cutting(SEED, share=SHARE, whole=whole)
    deliveries = Deliveries(engine, [peer], IMPATIENT)
    deliveries.start()
    try:
        until(
            lambda: delivered(engine, task) == count,
            seconds=seconds,
            why=lambda: f"{delivered(engine, task)} delivered, {len(proxy.cuts)} cuts",
        )
    finally:
        deliveries.stop(60.0)
    return sum(
        cut.way is Way.UP and opening < cut.after < whole[Way.UP] - RELEASE for cut in proxy.cuts
    )


def test_a_hundred_results_through_a_network_that_cuts_every_tenth_connection(engine, tmp_path):
    task, made = owe_images(engine, tmp_path, count=100)
    with StandInPacs(tmp_path / "pacs") as pacs, Proxy(pacs.port) as proxy:
        amid_data = deliver_through_cuts(
            engine, proxy, peer_at(proxy.port), task, count=100, seconds=120
        )

    assert amid_data >= 1, f"{proxy.cuts}"
    require_each_whole_and_once(tmp_path / "pacs", made)
    require_sent_again_only_what_was_cut(pacs, proxy)
    assert {one.state for one in owed_to(engine, task)} == {DeliveryState.DELIVERED}


@pytest.mark.fault
@pytest.mark.peers
def test_a_thousand_results_through_a_network_that_cuts_every_tenth_connection(engine, tmp_path):
    task, made = owe_images(engine, tmp_path, count=1000)
    with orthanc(tmp_path / "orthanc") as pacs, Proxy(pacs.dicom_port) as proxy:
        peer = peer_at(proxy.port, ae_title=pacs.ae_title)
        amid_data = deliver_through_cuts(engine, proxy, peer, task, count=1000, seconds=900)
        assert pacs.get("/statistics")["CountInstances"] == 1000
        pacs.save(tmp_path / "held")

    assert amid_data >= 10, f"{proxy.cuts}"
    require_each_whole_and_once(tmp_path / "held", made)
    assert {one.state for one in owed_to(engine, task)} == {DeliveryState.DELIVERED}
    assert any(one.attempt for one in owed_to(engine, task))


def require_each_whole_and_once(folder, made):
    """Require every data set in a folder as it was made, and nothing else."""
    held = {path.stem: path.read_bytes() for path in folder.iterdir()}
    assert set(held) == set(made)
    assert [uid for uid, content in held.items() if not content.endswith(made[uid])] == []


def require_sent_again_only_what_was_cut(pacs, proxy):
    again = sum(pacs.received.values()) - len(pacs.received)
    assert again <= len(proxy.cuts), "a cut leaves one object in doubt, not more"


@pytest.mark.parametrize("hard", [False, True], ids=["closed", "reset"])
@pytest.mark.parametrize("way", list(Way))
def test_wherever_a_delivery_is_cut_the_next_try_brings_it(engine, tmp_path, way, hard):
    alone = replace(IMPATIENT, base_seconds=0.0, batch=1)
    task, made = owe_images(engine, tmp_path, count=10)
    with StandInPacs(tmp_path / "pacs") as pacs, Proxy(pacs.port) as proxy:
        peer = peer_at(proxy.port)
        opening = opening_bytes(proxy, peer, owed_to(engine, task)[0].path)
        whole = whole_passage(proxy, peer, engine, alone)
        places = places_of_a_delivery(opening, whole, way)
        proxy.plan = cut_one_after_the_other(proxy, places, way, hard=hard)
        destination = Destination(engine, peer, alone)
        for _ in range(2 * len(places) + len(made)):
            destination.deliver_due()

    assert delivered(engine, task) == len(made)
    assert [cut.after for cut in proxy.cuts] == places
    require_sent_again_only_what_was_cut(pacs, proxy)
    require_each_whole_and_once(tmp_path / "pacs", made)


def places_of_a_delivery(opening, whole, way):
    """Return the bytes at which the connections of one delivery each are cut."""
    end = whole[way] - RELEASE
    if way is Way.DOWN:
        # In the acceptance of the association, in and after the response, in that to the release.
        return [1, end // 2, end - 60, end - 1, end, end + 5]
    # In and after the request, in the command and the data set, after that, in the release.
    middle = (opening + end) // 2
    return [0, opening - 1, opening, opening + 50, middle, end - 1, end, end + 5]


def cut_one_after_the_other(proxy, places, way, *, hard):
    """Return a plan that goes on to the next place when the one before was really cut.

    A connection need not come so far: whoever could not connect looks once more why.
    """
    lines = [Line(cut=Cut(way=way, after=place, hard=hard)) for place in places]
    return lambda _: lines[len(proxy.cuts)] if len(proxy.cuts) < len(lines) else Line()


@pytest.mark.parametrize("stall", ["opening", "data"])
def test_a_destination_that_falls_silent_delays_no_other(engine, tmp_path, stall):
    task, made = owe_images(engine, tmp_path, count=20, destinations=("silent", "alive"))
    with (
        StandInPacs(tmp_path / "pacs") as pacs,
        StandInPacs(tmp_path / "behind") as behind,
        Proxy(behind.port) as proxy,
    ):
        silent = peer_at(proxy.port, name="silent")
        opening = opening_bytes(proxy, silent, owed_to(engine, task, "silent")[0].path)
        after = {"opening": 0, "data": opening + 1000}[stall]
        proxy.plan = only_first(Line(stall=after))
        deliveries = Deliveries(engine, [silent, peer_at(pacs.port, name="alive")], PATIENT)
        deliveries.start()
        try:
            until(lambda: delivered(engine, task, "alive") == len(made), seconds=60)
            until(lambda: proxy.passages and proxy.passages[0].stalled, seconds=10)
            meanwhile = [(one.state, one.attempt) for one in owed_to(engine, task, "silent")]
            proxy.hang_up()
            until(lambda: delivered(engine, task, "silent") == len(made), seconds=60)
        finally:
            deliveries.stop(60.0)

    assert meanwhile == [(DeliveryState.WAITING, 0)] * len(made)
    require_each_whole_and_once(tmp_path / "pacs", made)
    require_each_whole_and_once(tmp_path / "behind", made)


@pytest.mark.parametrize(
    ("line", "least"),
    [(Line(piece=7), 1000), (Line(delay_seconds=0.02), 8)],
    ids=["seven bytes at a time", "late"],
)
def test_a_slow_network_needs_no_second_try(engine, tmp_path, line, least):
    task, made = owe_images(engine, tmp_path, count=5)
    with StandInPacs(tmp_path / "pacs") as pacs, Proxy(pacs.port, lambda _: line) as proxy:
        Destination(engine, peer_at(proxy.port), IMPATIENT).deliver_due()

        assert pacs.received == dict.fromkeys(made, 1)
    (passage,) = proxy.passages
    assert passage.pieces >= least
    assert {(one.state, one.attempt) for one in owed_to(engine, task)} == {
        (DeliveryState.DELIVERED, 0)
    }
