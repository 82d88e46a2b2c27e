"""Reading back: what a destination does not list is sent again, and told in the end."""

import json
from dataclasses import replace

import pytest

from node.asking import ConfirmSettings
from node.config import Peer
from node.deliver import DeliverySettings, Destination
from node.ledger import confirmations, outbox
from node.ledger.status import summary
from node.peer import Timeouts
from node.task import ConfirmationKind, ConfirmationState, DeliveryState, Resending
from tests.build_ledger import new_ledger, owe
from tests.committing_pacs import CommittingPacs, Where
from tests.web_server import WebAnswer, keep_all, web_server

QUICK = DeliverySettings(
    calling_ae="PELLUCID",
    base_seconds=0.0,
    timeouts=Timeouts(connect=10.0, association=10.0, response=10.0, network=10.0),
    confirm=ConfirmSettings(
        questions=3, looks=2, resending=Resending(times=1, pause_seconds=0.0), linger_seconds=20.0
    ),
)
DUE, FOUND, FAILED = (
    ConfirmationState.DUE,
    ConfirmationState.CONFIRMED,
    ConfirmationState.FAILED,
)
DELIVERED, PARKED = DeliveryState.DELIVERED, DeliveryState.PARKED


@pytest.fixture
def engine(tmp_path):
    engine = new_ledger(tmp_path)
    yield engine
    engine.dispose()


def asked(pacs: CommittingPacs, **changes) -> Peer:
    place = {"ae_title": "KEEPER", "host": "127.0.0.1", "port": pacs.port}
    return Peer(name="pacs", **place, readback=True, **changes)


def rounds(engine, peer: Peer, count: int = 1, settings=QUICK) -> None:
    to_peer = Destination(engine, peer, settings)
    for _ in range(count):
        to_peer.deliver_due()
        to_peer.confirm_due()


def stands(engine, task) -> list[tuple[DeliveryState, ConfirmationState | None]]:
    known = confirmations.of_task(engine, task.id)
    return [
        (one.state, known.get(one.id, {}).get(ConfirmationKind.READBACK))
        for one in outbox.of_task(engine, task.id)
    ]


def words(engine) -> str:
    return " ".join(each.text for each in summary(engine).complaints)


def test_series_that_is_listed_is_found_by_one_query(engine, tmp_path):
    task = owe(engine, tmp_path, destination="pacs", count=3)

    with CommittingPacs(lists=lambda uid: True) as pacs:
        rounds(engine, asked(pacs), 2)

    assert stands(engine, task) == [(DELIVERED, FOUND)] * 3
    assert pacs.queries == [""]


def test_list_that_is_cut_off_loses_nothing(engine, tmp_path):
    task = owe(engine, tmp_path, destination="pacs", count=3)

    with CommittingPacs(lists=lambda uid: True, most=1) as pacs:
        rounds(engine, asked(pacs))

    assert stands(engine, task) == [(DELIVERED, FOUND)] * 3
    assert pacs.queries == ["", "2.25.2", "2.25.3"]


def test_object_that_is_listed_later_is_not_sent_again(engine, tmp_path):
    task = owe(engine, tmp_path, destination="pacs")
    shown = [False, False, True]

    with CommittingPacs(lists=lambda uid: shown.pop(0)) as pacs:
        rounds(engine, asked(pacs), 2)

    assert stands(engine, task) == [(DELIVERED, FOUND)]
    assert pacs.stored == {"2.25.1": 1}


def test_object_that_is_never_listed_is_sent_again_and_told(engine, tmp_path):
    task = owe(engine, tmp_path, destination="pacs", count=2)

    with CommittingPacs(lists=lambda uid: uid != "2.25.2") as pacs:
        rounds(engine, asked(pacs), 6)

    assert pacs.stored == {"2.25.1": 1, "2.25.2": 2}
    assert stands(engine, task) == [(DELIVERED, FOUND), (PARKED, FAILED)]
    assert "delivered, but pacs does not list it; sent again once" in words(engine)


def test_pacs_that_takes_no_query_is_told(engine, tmp_path):
    task = owe(engine, tmp_path, destination="pacs")

    with CommittingPacs() as pacs:
        rounds(engine, asked(pacs))

    assert stands(engine, task) == [(PARKED, FAILED)]
    assert "delivered, but whether it is there cannot be asked" in words(engine)


def test_query_that_fails_is_put_again_and_told_in_the_end(engine, tmp_path):
    task = owe(engine, tmp_path, destination="pacs")

    with CommittingPacs(lists=lambda uid: True) as pacs:
        pacs.query_status = 0xA700
        rounds(engine, asked(pacs), 2)
        between = stands(engine, task)
        rounds(engine, asked(pacs))

    assert between == [(DELIVERED, DUE)]
    assert stands(engine, task) == [(PARKED, FAILED)]
    assert "pacs cannot answer a query (0xA700); asked 3 times" in words(engine)


def test_commitment_and_readback_are_both_asked(engine, tmp_path):
    task = owe(engine, tmp_path, destination="pacs")

    with CommittingPacs(Where.SAME, lists=lambda uid: True) as pacs:
        rounds(engine, asked(pacs, commitment=True))

    (known,) = confirmations.of_task(engine, task.id).values()
    assert known == {ConfirmationKind.COMMITMENT: FOUND, ConfirmationKind.READBACK: FOUND}


def test_file_that_is_gone_meanwhile_is_told(engine, tmp_path):
    task = owe(engine, tmp_path, destination="pacs")

    with CommittingPacs(lists=lambda uid: True) as pacs:
        to_pacs = Destination(engine, asked(pacs), QUICK)
        to_pacs.deliver_due()
        outbox.of_task(engine, task.id)[0].path.unlink()
        to_pacs.confirm_due()

    assert stands(engine, task) == [(PARKED, FAILED)]


@pytest.mark.parametrize(
    ("status", "listed", "state"),
    [
        (200, ["2.25.1"], (DELIVERED, FOUND)),
        (200, [], (DELIVERED, DUE)),
        (204, None, (DELIVERED, DUE)),
        (404, None, (DELIVERED, DUE)),
        (503, None, (DELIVERED, DUE)),
        (401, None, (PARKED, FAILED)),
    ],
)
def test_service_is_asked_by_qido(engine, tmp_path, status, listed, state):
    task = owe(engine, tmp_path, destination="pacs")

    def answer(uids):
        return keep_all(uids) if uids else search_answer(status, listed)

    with web_server(answer) as server:
        rounds(engine, Peer(name="pacs", url=server.url, readback=True))

    assert stands(engine, task) == [state]
    assert "/studies/1.2.826.1/series/1.2.826.1.7/instances" in server.searches[0]


def search_answer(status: int, listed: list[str] | None) -> WebAnswer:
    if listed is None:
        return WebAnswer(status=status)
    matches = [{"00080018": {"vr": "UI", "Value": [uid]}} for uid in listed]
    headers = {"Content-Type": "application/dicom+json"}
    return WebAnswer(status=status, body=json.dumps(matches).encode(), headers=headers)


def test_dead_pacs_is_asked_later(engine, tmp_path):
    task = owe(engine, tmp_path, destination="pacs")
    with CommittingPacs(lists=lambda uid: True) as pacs:
        to_pacs = Destination(engine, asked(pacs), replace(QUICK, base_seconds=60.0))
        to_pacs.deliver_due()

    to_pacs.confirm_due()
    to_pacs.confirm_due()

    assert stands(engine, task) == [(DELIVERED, DUE)]
