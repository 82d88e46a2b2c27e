"""Storage commitment: kept for good, sent again, or told to a person, whatever the PACS does."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from node import receivers
from node.asking import ConfirmSettings
from node.config import Config, NodeSettings, Peer, Service, site_of
from node.deliver import DeliverySettings, Destination
from node.doorman import AllowedPeer
from node.ledger import confirmations, outbox
from node.ledger.status import summary
from node.peer import Timeouts
from node.task import ConfirmationKind, ConfirmationState, DeliveryState, Resending
from tests.build_ledger import ledger_url, new_ledger, owe
from tests.build_wire import receive_settings, receiver
from tests.committing_pacs import CommittingPacs, Where
from tests.wait import until

QUICK = DeliverySettings(
    calling_ae="PELLUCID",
    base_seconds=0.0,
    timeouts=Timeouts(connect=10.0, association=10.0, response=10.0, network=10.0),
    confirm=ConfirmSettings(
        questions=3, resending=Resending(times=2, pause_seconds=0.0), linger_seconds=0.1
    ),
)
PATIENT = replace(QUICK, confirm=replace(QUICK.confirm, linger_seconds=20.0))
DUE, ASKED = ConfirmationState.DUE, ConfirmationState.ASKED
CONFIRMED, FAILED = ConfirmationState.CONFIRMED, ConfirmationState.FAILED
WAITING, DELIVERED = DeliveryState.WAITING, DeliveryState.DELIVERED
PARKED = DeliveryState.PARKED


@pytest.fixture
def engine(tmp_path):
    engine = new_ledger(tmp_path)
    yield engine
    engine.dispose()


@pytest.fixture
def node_port(tmp_path, engine):
    keeper = AllowedPeer(name="pacs", ae_title="KEEPER", host="127.0.0.1", commit=True)
    sender = AllowedPeer(name="ct1", ae_title="CT1", host="127.0.0.1")
    settings = receive_settings(tmp_path, peers=(keeper, sender), accept_unknown=False)
    with receiver(settings) as port:
        yield port


def destination(engine, pacs: CommittingPacs, settings=QUICK) -> Destination:
    peer = Peer(name="pacs", ae_title="KEEPER", host="127.0.0.1", port=pacs.port, commitment=True)
    return Destination(engine, peer, settings)


def stands(engine, task) -> list[tuple[DeliveryState, ConfirmationState | None]]:
    """Return state and commitment of everything that the task owes."""
    known = confirmations.of_task(engine, task.id)
    return [
        (one.state, known.get(one.id, {}).get(ConfirmationKind.COMMITMENT))
        for one in outbox.of_task(engine, task.id)
    ]


def words(engine) -> str:
    return " ".join(each.text for each in summary(engine).complaints)


def test_report_over_the_same_association_commits_everything_in_one_request(engine, tmp_path):
    task = owe(engine, tmp_path, destination="pacs", count=3)

    with CommittingPacs(Where.SAME) as pacs:
        to_pacs = destination(engine, pacs, PATIENT)
        to_pacs.deliver_due()
        before = stands(engine, task)
        to_pacs.confirm_due()

    assert before == [(DELIVERED, DUE)] * 3
    assert stands(engine, task) == [(DELIVERED, CONFIRMED)] * 3
    assert [uids for _, uids in pacs.requests] == [("2.25.1", "2.25.2", "2.25.3")]
    assert pacs.answers == [0x0000]


def test_report_over_an_association_of_the_pacs_commits(engine, tmp_path, node_port):
    task = owe(engine, tmp_path, destination="pacs", count=2)

    with CommittingPacs(Where.OTHER) as pacs:
        pacs.node_port = node_port
        to_pacs = destination(engine, pacs)
        to_pacs.deliver_due()
        to_pacs.confirm_due()
        until(lambda: pacs.answers, seconds=20)

    assert pacs.answers == [0x0000]
    assert stands(engine, task) == [(DELIVERED, CONFIRMED)] * 2


def test_what_is_committed_is_not_asked_again(engine, tmp_path):
    owe(engine, tmp_path, destination="pacs")

    with CommittingPacs(Where.SAME) as pacs:
        to_pacs = destination(engine, pacs, PATIENT)
        to_pacs.deliver_due()
        to_pacs.confirm_due()

        to_pacs.deliver_due()
        to_pacs.confirm_due()

    assert len(pacs.requests) == 1
    assert pacs.stored == {"2.25.1": 1}


def test_object_that_is_not_kept_is_sent_again_and_then_told_to_a_person(engine, tmp_path):
    task = owe(engine, tmp_path, destination="pacs", count=2)

    with CommittingPacs(Where.SAME, failure={"2.25.2": 0x0112}.get) as pacs:
        to_pacs = destination(engine, pacs, PATIENT)
        for _ in range(5):
            to_pacs.deliver_due()
            to_pacs.confirm_due()

    assert pacs.stored == {"2.25.1": 1, "2.25.2": 3}
    assert stands(engine, task) == [(DELIVERED, CONFIRMED), (PARKED, FAILED)]
    told = "delivered, but pacs does not keep it: it has no such object (0x0112); sent again 2"
    assert told in words(engine)


def test_archive_that_is_slow_to_see_an_object_is_given_time(engine, tmp_path):
    task = owe(engine, tmp_path, destination="pacs")
    unhurried = replace(PATIENT.confirm, resending=Resending(pause_seconds=60.0))

    with CommittingPacs(Where.SAME, failure=lambda uid: 0x0112) as pacs:
        to_pacs = destination(engine, pacs, replace(PATIENT, confirm=unhurried))
        to_pacs.deliver_due()
        to_pacs.confirm_due()
        tried_at_once = to_pacs.deliver_due()

    (owed,) = outbox.of_task(engine, task.id)
    assert (owed.state, tried_at_once) == (WAITING, 0)
    assert 50 < (owed.not_before - datetime.now(UTC)).total_seconds() <= 60


def test_object_that_is_lost_once_is_sent_again_and_committed(engine, tmp_path):
    task = owe(engine, tmp_path, destination="pacs")
    reasons = [0x0112, None]

    with CommittingPacs(Where.SAME, failure=lambda uid: reasons.pop(0)) as pacs:
        to_pacs = destination(engine, pacs, PATIENT)
        for _ in range(2):
            to_pacs.deliver_due()
            to_pacs.confirm_due()

    assert pacs.stored == {"2.25.1": 2}
    assert stands(engine, task) == [(DELIVERED, CONFIRMED)]


def test_kind_of_object_that_is_never_kept_is_not_sent_again(engine, tmp_path):
    task = owe(engine, tmp_path, destination="pacs")

    with CommittingPacs(Where.SAME, failure=lambda uid: 0x0122) as pacs:
        to_pacs = destination(engine, pacs, PATIENT)
        for _ in range(2):
            to_pacs.deliver_due()
            to_pacs.confirm_due()

    assert pacs.stored == {"2.25.1": 1}
    assert stands(engine, task) == [(PARKED, FAILED)]
    assert "it does not commit itself to this kind of object (0x0122)" in words(engine)


def test_answer_that_never_comes_is_asked_for_again_and_then_told(engine, tmp_path):
    task = owe(engine, tmp_path, destination="pacs")
    impatient = replace(QUICK, confirm=replace(QUICK.confirm, answer_seconds=0.0))

    with CommittingPacs(Where.NEVER) as pacs:
        to_pacs = destination(engine, pacs, impatient)
        to_pacs.deliver_due()
        seen = []
        for _ in range(4):
            to_pacs.confirm_due()
            seen.append(stands(engine, task)[0])

    assert seen == [(DELIVERED, ASKED)] * 3 + [(PARKED, FAILED)]
    assert len({transaction for transaction, _ in pacs.requests}) == 3
    assert pacs.stored == {"2.25.1": 1}
    assert "pacs never said whether it keeps it; asked 3 times" in words(engine)


def test_late_answer_to_an_earlier_question_counts(engine, tmp_path, node_port):
    task = owe(engine, tmp_path, destination="pacs")
    impatient = replace(QUICK, confirm=replace(QUICK.confirm, answer_seconds=0.0))

    with CommittingPacs(Where.NEVER) as pacs:
        pacs.node_port = node_port
        to_pacs = destination(engine, pacs, impatient)
        to_pacs.deliver_due()
        to_pacs.confirm_due()
        to_pacs.confirm_due()
        pacs.report(*pacs.requests[0])

    assert len(pacs.requests) == 2
    assert pacs.answers == [0x0000]
    assert stands(engine, task) == [(DELIVERED, CONFIRMED)]


def test_late_failure_of_an_earlier_question_sends_nothing_again(engine, tmp_path, node_port):
    task = owe(engine, tmp_path, destination="pacs")
    impatient = replace(QUICK, confirm=replace(QUICK.confirm, answer_seconds=0.0))

    with CommittingPacs(Where.NEVER, failure=lambda uid: 0x0112) as pacs:
        pacs.node_port = node_port
        to_pacs = destination(engine, pacs, impatient)
        to_pacs.deliver_due()
        to_pacs.confirm_due()
        to_pacs.confirm_due()
        pacs.report(*pacs.requests[0])

    assert stands(engine, task) == [(DELIVERED, ASKED)]


@pytest.mark.parametrize(("status", "offers"), [(0x0110, True), (0x0000, False)])
def test_request_that_is_not_taken_is_told_in_the_end(engine, tmp_path, status, offers):
    task = owe(engine, tmp_path, destination="pacs")

    with CommittingPacs(Where.NEVER, status=status, offers_commitment=offers) as pacs:
        to_pacs = destination(engine, pacs)
        to_pacs.deliver_due()
        for _ in range(3):
            to_pacs.confirm_due()

    assert stands(engine, task) == [(PARKED, FAILED)]
    assert ("(0x0110)" if offers else "cannot be asked") in words(engine)


def test_dead_pacs_is_asked_again_later(engine, tmp_path):
    task = owe(engine, tmp_path, destination="pacs")
    with CommittingPacs(Where.SAME) as pacs:
        to_pacs = destination(engine, pacs)
        to_pacs.deliver_due()

    to_pacs.confirm_due()

    assert stands(engine, task) == [(DELIVERED, DUE)]


def test_what_a_person_releases_is_sent_and_asked_about_anew(engine, tmp_path):
    task = owe(engine, tmp_path, destination="pacs")
    reasons = [0x0122, None]

    with CommittingPacs(Where.SAME, failure=lambda uid: reasons.pop(0)) as pacs:
        to_pacs = destination(engine, pacs, PATIENT)
        to_pacs.deliver_due()
        to_pacs.confirm_due()
        outbox.release(engine, outbox.of_task(engine, task.id)[0].id, datetime.now(UTC))
        to_pacs.deliver_due()
        to_pacs.confirm_due()

    assert stands(engine, task) == [(DELIVERED, CONFIRMED)]


def test_report_of_nothing_that_was_asked_for_is_refused(engine, tmp_path, node_port):
    task = owe(engine, tmp_path, destination="pacs")

    with CommittingPacs(Where.NEVER) as pacs:
        pacs.node_port = node_port
        destination(engine, pacs).deliver_due()
        pacs.report("2.25.999", ("2.25.1",))

    assert pacs.answers == [0x0115]
    assert stands(engine, task) == [(DELIVERED, DUE)]


def test_peer_that_may_not_commit_cannot_report(engine, tmp_path, node_port):
    task = owe(engine, tmp_path, destination="pacs")

    with CommittingPacs(Where.NEVER) as pacs:
        pacs.node_port = node_port
        to_pacs = destination(engine, pacs)
        to_pacs.deliver_due()
        to_pacs.confirm_due()
        pacs.report(*pacs.requests[0], title="CT1")

    assert pacs.answers == [None]
    assert stands(engine, task) == [(DELIVERED, ASKED)]


def test_receiver_of_a_node_takes_reports_of_peers_that_may_commit(tmp_path):
    place = {"host": "127.0.0.1", "port": 104}
    keeper = Peer(name="pacs", ae_title="KEEPER", allow=(Service.COMMIT,), **place)
    sender = Peer(name="ct1", ae_title="CT1", **place)
    cloud = Peer(name="cloud", url="https://cloud.example/dicom-web")
    node = NodeSettings(data=tmp_path, database=ledger_url(tmp_path))
    peers = {peer.name: peer for peer in (keeper, sender, cloud)}

    known = receivers.receive_settings(Config(node=node, site=site_of(node), peers=peers)).peers

    assert {(each.name, each.store, each.commit) for each in known} == {
        ("pacs", False, True),
        ("ct1", True, False),
    }


def test_peer_without_commitment_is_asked_nothing(engine, tmp_path):
    task = owe(engine, tmp_path, destination="pacs")

    with CommittingPacs(Where.SAME) as pacs:
        peer = Peer(name="pacs", ae_title="KEEPER", host="127.0.0.1", port=pacs.port)
        Destination(engine, peer, QUICK).deliver_due()
        Destination(engine, peer, QUICK).confirm_due()

    assert pacs.requests == []
    assert stands(engine, task) == [(DELIVERED, None)]
