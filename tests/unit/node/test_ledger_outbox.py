"""What is owed: due, delivered, postponed, parked, refused, released."""

from datetime import timedelta

import pytest
from sqlalchemy import select

from node.ledger import outbox, schema, status
from node.ledger.engine import reading
from node.task import DeliveryState
from tests.build_ledger import LONG_AGO, STUDY_UID, owe

NOW = LONG_AGO + timedelta(minutes=5)


@pytest.fixture
def engine(ledger, tmp_path):
    owe(ledger, tmp_path, destination="pacs", count=2)
    return ledger


def due(engine, now=NOW):
    return outbox.due(engine, "pacs", now)


def test_each_destination_sees_only_its_own(engine):
    assert [d.sop_instance_uid for d in due(engine)] == ["2.25.1", "2.25.2"]
    assert outbox.due(engine, "archive", NOW) == ()


def test_what_is_delivered_is_owed_no_more(engine):
    first, second = due(engine)

    assert outbox.delivered(engine, first, 0x0000, NOW)

    assert due(engine) == (second,)
    assert not outbox.park(engine, first, status=None, reason="too late", now=NOW)


def test_a_failed_try_counts_and_waits(engine):
    first, second = due(engine)
    later = NOW + timedelta(minutes=1)

    outbox.postpone(engine, first, status=0xA700, reason="full", not_before=later, now=NOW)

    assert due(engine) == (second,)
    (again, _) = due(engine, later)
    assert (again.attempt, again.status) == (1, 0xA700)


def test_a_person_releases_what_was_parked_or_refused(engine):
    first, second = due(engine)
    outbox.park(engine, first, status=None, reason="unreachable", now=NOW)
    outbox.refuse(engine, second, status=0xA900, reason="does not match", now=NOW)
    assert due(engine) == ()

    assert outbox.release(engine, first.id, NOW)
    assert outbox.release(engine, second.id, NOW)

    assert [d.state for d in due(engine)] == [DeliveryState.WAITING] * 2


def test_what_is_delivered_cannot_be_released(engine):
    first, _ = due(engine)
    outbox.delivered(engine, first, 0x0000, NOW)

    assert not outbox.release(engine, first.id, NOW)


def test_what_waits_is_hastened_and_keeps_its_count_of_tries(engine):
    first, _ = due(engine)
    tomorrow = NOW + timedelta(days=1)
    outbox.postpone(engine, first, status=None, reason="gone", not_before=tomorrow, now=NOW)

    assert outbox.hasten(engine, NOW) == 1

    assert [d.attempt for d in due(engine)] == [1, 0]


def test_what_ended_is_in_the_audit_with_its_status(engine):
    first, second = due(engine)
    outbox.delivered(engine, first, 0x0000, NOW)
    outbox.refuse(engine, second, status=0xA900, reason="does not match", now=NOW)

    with reading(engine) as connection:
        audit = schema.audit.c
        rows = connection.execute(
            select(schema.audit).where(audit.actor == "pacs").order_by(audit.id)
        ).all()

    assert [(row.event, row.detail["status"]) for row in rows] == [
        ("delivery_delivered", "0x0000"),
        ("delivery_refused", "0xA900"),
    ]
    assert {row.study_instance_uid for row in rows} == {STUDY_UID}


def test_the_summary_counts_and_complains(engine):
    first, second = due(engine)
    outbox.delivered(engine, first, 0x0000, NOW)
    outbox.park(engine, second, status=None, reason="unreachable since noon", now=NOW)

    summary = status.summary(engine)

    assert summary.instances == 2
    assert summary.studies == {"complete": 1}
    assert summary.tasks == {"done": 1}
    assert summary.deliveries == {"pacs": {"delivered": 1, "parked": 1}}
    (complaint,) = summary.complaints
    assert (complaint.kind, complaint.name) == ("delivery", "pacs")
    assert complaint.text == "unreachable since noon"
