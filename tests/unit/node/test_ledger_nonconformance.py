"""What does not conform is kept and named, counts as an image, and never for one that is whole."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select, text

from node.ledger import files, instances, nonconformance, retention, schema, studies
from node.ledger.engine import reading
from node.ledger.instances import Added
from node.task import StudyState
from tests.build_ledger import LONG_AGO, new_ledger
from tests.unit.node.test_ledger_instances import STUDY, complete, make_instance, receive, rows

REASON = "a value is longer than its parent at byte 4711"


@pytest.fixture
def engine(ledger):
    return ledger


def damaged(uid="1.2.3.4.1", **changes):
    return replace(make_instance(uid, **changes), nonconformance=REASON)


def named(engine, study=None):
    return [
        (one.series_instance_uid, one.images, one.reason)
        for one in nonconformance.damaged(engine, study)
    ]


def test_it_is_new_and_readable_again_with_what_is_wrong(engine):
    receive(engine, make_instance("1.2.3.4.2"))

    assert receive(engine, damaged()) is Added.NEW

    assert instances.of_study(engine, STUDY) == (damaged(), make_instance("1.2.3.4.2"))
    assert studies.state(engine, STUDY) is StudyState.RECEIVING


def test_it_is_named_by_series_and_study(engine):
    receive(engine, damaged())
    receive(engine, damaged("1.2.3.4.2"))
    receive(engine, make_instance("1.2.3.4.3"))
    receive(engine, damaged("1.2.9.4.1", study_instance_uid="1.2.9", series_instance_uid="1.2.9.4"))

    assert sorted(named(engine)) == [("1.2.3.4", 2, REASON), ("1.2.9.4", 1, REASON)]
    assert named(engine, "1.2.9") == [("1.2.9.4", 1, REASON)]


def test_the_same_bytes_again_are_a_duplicate(engine):
    receive(engine, damaged())

    assert receive(engine, damaged(), seconds=5) is Added.DUPLICATE
    assert named(engine) == [("1.2.3.4", 1, REASON)]


def test_late_it_opens_a_study_again_for_the_routes_that_select_it(engine):
    receive(engine, make_instance("1.2.3.4.2"))
    complete(engine)

    receive(engine, damaged())

    assert studies.state(engine, STUDY) is StudyState.RECEIVING
    assert len(complete(engine, selected=frozenset({"1.2.3.4.1"}))) == 1


def test_what_is_whole_takes_its_place_and_opens_the_study_again_unread(engine):
    receive(engine, damaged(), pixels="x")
    complete(engine)

    whole = make_instance(path=Path("/data/whole"))
    assert receive(engine, whole, "b", pixels="x") is Added.REPLACED

    assert studies.state(engine, STUDY) is StudyState.RECEIVING
    assert [one.nonconformance for one in instances.of_study(engine, STUDY)] == [""]
    assert named(engine) == []


def test_it_never_takes_the_place_of_what_is_whole(engine):
    receive(engine, make_instance())
    complete(engine)

    kept = damaged(path=Path("/data/damaged"))
    assert receive(engine, kept, "b") is Added.DAMAGED

    assert studies.state(engine, STUDY) is StudyState.COMPLETE
    assert instances.of_study(engine, STUDY) == (make_instance(),)
    assert instances.of_study(engine, STUDY, 1) == (make_instance(),)
    assert files.known_files(engine, [kept.path]) == {kept.path}
    assert [row.meaning for row in rows(engine, schema.reception)] == ["new", "damaged"]
    with reading(engine) as connection:
        marked = connection.scalars(select(schema.instance.c.nonconformance)).all()
    assert sorted(marked, key=str) == [None, REASON]


def test_an_open_study_waits_for_more_after_a_damaged_copy(engine):
    receive(engine, make_instance())

    receive(engine, damaged(), "b", seconds=50)

    (silent,) = studies.due(engine, LONG_AGO + timedelta(minutes=5))
    assert silent.since == LONG_AGO + timedelta(seconds=50)


def test_another_damaged_version_replaces_it(engine):
    receive(engine, damaged(), pixels="x")

    assert receive(engine, damaged(), "b", pixels="x") is Added.REPLACED
    assert named(engine) == [("1.2.3.4", 1, REASON)]


def test_of_another_patient_it_quarantines(engine):
    receive(engine, make_instance("1.2.3.4.2"))

    assert receive(engine, damaged(patient_id="P2")) is Added.CONFLICT

    assert studies.state(engine, STUDY) is StudyState.QUARANTINED
    assert instances.of_study(engine, STUDY) == (make_instance("1.2.3.4.2"),)


def test_it_goes_with_its_study(engine):
    receive(engine, damaged())
    studies.complete(engine, STUDY, [], now=LONG_AGO + timedelta(minutes=1))
    day, next_day = (LONG_AGO + timedelta(days=days) for days in (1, 2))

    (settled,) = retention.settled(engine, before=day)
    gone = retention.expire(engine, STUDY, before=day, header=None, reason="age", now=next_day)

    assert settled.study_instance_uid == STUDY
    assert gone == (damaged().path,)
    assert named(engine) == []


def test_naming_it_reads_no_image_that_conforms(tmp_path):
    engine = new_ledger(tmp_path)
    receive(engine, damaged())
    with reading(engine) as connection:
        plan = connection.execute(
            text(
                "EXPLAIN QUERY PLAN SELECT count(*) FROM instance WHERE nonconformance IS NOT NULL "
                "AND replaced_in IS NULL GROUP BY study_instance_uid"
            )
        ).all()
    engine.dispose()

    assert any("USING INDEX ix_instance_study_instance_uid" in row.detail for row in plan), plan
