"""Delivery: what is owed arrives, what cannot arrive waits or is told to a person."""

import logging
import socket
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from node.config import Peer
from node.deliver import Deliveries, DeliverySettings, Destination
from node.ledger import outbox, tasks
from node.peer import Timeouts
from node.standin import StandInPacs
from node.task import DeliveryState, NewDelivery
from tests.build_ledger import LONG_AGO, new_ledger, owe, ready_task, write_instance
from tests.wait import until

QUICK = DeliverySettings(
    calling_ae="PELLUCID",
    base_seconds=0.0,
    attempts=4,
    poll_seconds=0.05,
    timeouts=Timeouts(connect=2.0, association=2.0, response=2.0, network=2.0),
)


@pytest.fixture
def engine(tmp_path):
    engine = new_ledger(tmp_path)
    yield engine
    engine.dispose()


@pytest.fixture
def closed_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def peer_at(port: int, name: str = "pacs") -> Peer:
    return Peer(name=name, ae_title="STANDIN", host="127.0.0.1", port=port)


def states(engine, task) -> list[tuple[DeliveryState, int, int | None]]:
    return [(one.state, one.attempt, one.status) for one in outbox.of_task(engine, task.id)]


def test_everything_owed_arrives_once_over_one_association(engine, tmp_path):
    task = owe(engine, tmp_path, destination="pacs", count=3)
    with StandInPacs(tmp_path / "pacs") as pacs:
        tried = Destination(engine, peer_at(pacs.port), QUICK).deliver_due()

        assert tried == 3
        assert pacs.received == {"2.25.1": 1, "2.25.2": 1, "2.25.3": 1}
    assert states(engine, task) == [(DeliveryState.DELIVERED, 0, 0x0000)] * 3


def test_what_is_delivered_is_not_sent_again(engine, tmp_path):
    owe(engine, tmp_path, destination="pacs")
    with StandInPacs(tmp_path / "pacs") as pacs:
        destination = Destination(engine, peer_at(pacs.port), QUICK)
        destination.deliver_due()

        assert destination.deliver_due() == 0
        assert pacs.received == {"2.25.1": 1}


@pytest.mark.parametrize(
    ("status", "state", "attempt"),
    [
        (0xB000, DeliveryState.DELIVERED, 0),
        (0xB007, DeliveryState.DELIVERED, 0),
        (0x0107, DeliveryState.DELIVERED, 0),
        (0x0111, DeliveryState.DELIVERED, 0),
        (0xA700, DeliveryState.WAITING, 1),
        (0x0213, DeliveryState.WAITING, 1),
        (0xA900, DeliveryState.REFUSED, 0),
        (0xC001, DeliveryState.REFUSED, 0),
        (0x0112, DeliveryState.REFUSED, 0),
        (0x0122, DeliveryState.REFUSED, 0),
        (0x0124, DeliveryState.REFUSED, 0),
    ],
)
def test_status_decides_what_becomes_of_a_delivery(engine, tmp_path, status, state, attempt):
    task = owe(engine, tmp_path, destination="pacs")
    with StandInPacs(tmp_path / "pacs", answer=lambda uid: status) as pacs:
        Destination(engine, peer_at(pacs.port), QUICK).deliver_due()

    assert states(engine, task) == [(state, attempt, status)]


def test_one_refused_object_does_not_keep_back_the_others(engine, tmp_path):
    task = owe(engine, tmp_path, destination="pacs", count=3)

    def refuse_second(uid: str) -> int:
        return 0xC000 if uid == "2.25.2" else 0x0000

    with StandInPacs(tmp_path / "pacs", answer=refuse_second) as pacs:
        Destination(engine, peer_at(pacs.port), QUICK).deliver_due()

    assert [state for state, _, _ in states(engine, task)] == [
        DeliveryState.DELIVERED,
        DeliveryState.REFUSED,
        DeliveryState.DELIVERED,
    ]


def test_object_damaged_in_the_store_does_not_keep_back_the_others(engine, tmp_path):
    task = owe(engine, tmp_path, destination="pacs", count=2)
    damaged, _ = outbox.of_task(engine, task.id)
    damaged.path.write_bytes(b"no longer DICOM")

    with StandInPacs(tmp_path / "pacs") as pacs:
        Destination(engine, peer_at(pacs.port), QUICK).deliver_due()

        assert pacs.received == {"2.25.2": 1}
    assert [state for state, _, _ in states(engine, task)] == [
        DeliveryState.PARKED,
        DeliveryState.DELIVERED,
    ]


def test_object_whose_sending_fails_here_does_not_keep_back_the_others(engine, tmp_path):
    task = owe(engine, tmp_path, destination="pacs", count=3)
    _, vanishing, _ = outbox.of_task(engine, task.id)

    def lose_second(uid: str) -> int:
        vanishing.path.unlink(missing_ok=True)
        return 0x0000

    with StandInPacs(tmp_path / "pacs", answer=lose_second) as pacs:
        destination = Destination(engine, peer_at(pacs.port), QUICK)
        destination.deliver_due()
        destination.deliver_due()

        assert pacs.received == {"2.25.1": 1, "2.25.3": 1}
    assert [state for state, _, _ in states(engine, task)] == [
        DeliveryState.DELIVERED,
        DeliveryState.PARKED,
        DeliveryState.DELIVERED,
    ]


def test_dead_destination_is_tried_again_until_it_waits_for_a_person(engine, tmp_path, closed_port):
    task = owe(engine, tmp_path, destination="pacs")
    destination = Destination(engine, peer_at(closed_port), QUICK)

    seen = []
    for _ in range(QUICK.attempts):
        destination.deliver_due()
        seen.append(states(engine, task)[0][0])

    assert seen == [DeliveryState.WAITING] * 3 + [DeliveryState.PARKED]


def test_failed_try_is_not_due_again_before_its_pause(engine, tmp_path, closed_port):
    owe(engine, tmp_path, destination="pacs")
    patient = DeliverySettings(calling_ae="PELLUCID", timeouts=QUICK.timeouts)
    destination = Destination(engine, peer_at(closed_port), patient)
    destination.deliver_due()

    assert destination.deliver_due() == 0


def test_everything_owed_to_a_dead_destination_is_tried_again_at_once_and_told_once(
    engine, tmp_path, closed_port, caplog
):
    task = owe(engine, tmp_path, destination="pacs", count=5)
    patient = DeliverySettings(calling_ae="PELLUCID", timeouts=QUICK.timeouts)

    with caplog.at_level(logging.WARNING):
        Destination(engine, peer_at(closed_port), patient).deliver_due()

    assert len({one.not_before for one in outbox.of_task(engine, task.id)}) == 1
    (record,) = caplog.records
    assert (record.destination, record.objects) == ("pacs", 5)
    assert "connection refused" in record.reason


def test_object_that_is_gone_from_the_store_waits_for_a_person(engine, tmp_path):
    task = owe(engine, tmp_path, destination="pacs", count=2)
    Path(outbox.of_task(engine, task.id)[0].path).unlink()
    with StandInPacs(tmp_path / "pacs") as pacs:
        Destination(engine, peer_at(pacs.port), QUICK).deliver_due()

    assert [state for state, _, _ in states(engine, task)] == [
        DeliveryState.PARKED,
        DeliveryState.DELIVERED,
    ]


def test_association_that_breaks_off_loses_nothing(engine, tmp_path):
    task = owe(engine, tmp_path, destination="pacs", count=3)
    broken = threading.Event()

    def break_off_once(uid: str) -> int:
        if uid == "2.25.2" and not broken.is_set():
            broken.set()
            for association in pacs.associations():
                association.abort()
        return 0x0000

    with StandInPacs(tmp_path / "pacs", answer=break_off_once) as pacs:
        destination = Destination(engine, peer_at(pacs.port), QUICK)
        destination.deliver_due()
        after_break = states(engine, task)
        destination.deliver_due()

    assert [state for state, _, _ in after_break] == [
        DeliveryState.DELIVERED,
        DeliveryState.WAITING,
        DeliveryState.WAITING,
    ]
    assert {state for state, _, _ in states(engine, task)} == {DeliveryState.DELIVERED}


def test_start_waits_for_no_pause_from_before(engine, tmp_path):
    task = owe(engine, tmp_path, destination="pacs")
    (owed,) = outbox.of_task(engine, task.id)
    now = datetime.now(UTC)
    tomorrow = now + timedelta(days=1)
    outbox.postpone(engine, owed, status=None, reason="gone", not_before=tomorrow, now=now)

    with StandInPacs(tmp_path / "pacs") as pacs:
        deliveries = Deliveries(engine, [peer_at(pacs.port)], QUICK)
        deliveries.start()
        until(lambda: states(engine, task)[0][0] is DeliveryState.DELIVERED, seconds=10.0)
        deliveries.stop(5.0)


def test_dead_destination_delays_no_other(engine, tmp_path, closed_port):
    task = owe(engine, tmp_path, destination="alive")
    with socket.socket() as silent, StandInPacs(tmp_path / "pacs") as pacs:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        peers = [
            peer_at(silent.getsockname()[1], "silent"),
            peer_at(closed_port, "closed"),
            peer_at(pacs.port, "alive"),
        ]
        deliveries = Deliveries(engine, peers, QUICK)
        deliveries.start()
        until(lambda: states(engine, task)[0][0] is DeliveryState.DELIVERED, seconds=10.0)
        deliveries.stop(5.0)

    assert pacs.received == {"2.25.1": 1}


def test_destination_that_comes_back_gets_what_it_is_owed(engine, tmp_path, closed_port):
    task = owe(engine, tmp_path, destination="pacs")
    patient = DeliverySettings(
        calling_ae="PELLUCID", base_seconds=0.05, poll_seconds=0.05, timeouts=QUICK.timeouts
    )
    deliveries = Deliveries(engine, [peer_at(closed_port)], patient)
    deliveries.start()
    until(lambda: states(engine, task)[0][1] >= 1, seconds=10.0)

    with StandInPacs(tmp_path / "pacs", port=closed_port) as pacs:
        until(lambda: states(engine, task)[0][0] is DeliveryState.DELIVERED, seconds=20.0)
        deliveries.stop(5.0)

    assert pacs.received == {"2.25.1": 1}


def test_destinations_that_hang_are_left_behind_all_at_once(engine, tmp_path):
    names = ["first", "second", "third", "fourth"]
    owe_each(engine, tmp_path, names)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        deliveries = Deliveries(engine, [peer_at(port, name) for name in names], QUICK)
        deliveries.start()
        connections = [silent.accept()[0] for _ in names]
        start = time.monotonic()

        deliveries.stop(0.3)

        assert time.monotonic() - start < 0.9
        for connection in connections:
            connection.close()
        deliveries.stop(10.0)


def owe_each(engine, data: Path, destinations: list[str]) -> None:
    """Owe one object to each destination."""
    ready_task(engine, data)
    task = tasks.claim(engine, "worker-0", LONG_AGO + timedelta(seconds=2))
    path = write_instance(data / "made", "2.25.1")
    owed = [
        NewDelivery(destination=name, sop_class_uid="1.2.3", sop_instance_uid="2.25.1", path=path)
        for name in destinations
    ]
    tasks.finish(engine, task, owed, LONG_AGO + timedelta(seconds=3))
