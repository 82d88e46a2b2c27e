"""What destinations do not take, as ``pellucid status`` tells it."""

import json
from datetime import datetime, timedelta

import pytest

from dicom_io.encode.kinds import sop_classes
from node.cli import main
from node.ledger import accepted, outbox, tasks
from node.profiles import FALLBACKS
from node.shares import UNCOMPRESSED
from node.task import DeliveryState, NewDelivery, RefusedResult
from tests.build_config import NODE, ROUTES, write_config
from tests.build_ledger import LONG_AGO, STUDY_UID, new_ledger, ready_task, write_instance

SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
BASIC_TEXT = "1.2.840.10008.5.1.4.1.1.88.11"
ENHANCED_SR = "1.2.840.10008.5.1.4.1.1.88.22"


@pytest.fixture
def config(tmp_path):
    routes = ROUTES.replace('results = ["report", "bands"]\n', "")
    return write_config(tmp_path, node=NODE, routes=routes)


@pytest.fixture
def engine(config):
    engine = new_ledger(config / "data")
    yield engine
    engine.dispose()


@pytest.fixture
def status(capsys, config):
    """Run ``pellucid status`` and return exit status and what it told."""

    def run(*words):
        with pytest.raises(SystemExit) as ended:
            main(["status", *words, "-c", str(config), "--json"])
        return ended.value.code, json.loads(capsys.readouterr().out)

    return run


def at(seconds: int) -> datetime:
    return LONG_AGO + timedelta(seconds=seconds)


def done(engine, data, *, refused=()):
    """Return a finished task that has made a report, and a basic one in reserve."""
    ready_task(engine, data)
    task = tasks.claim(engine, "worker-0", at(10))
    made = [
        NewDelivery(
            destination=destination,
            result=result,
            series_instance_uid="1.2.3",
            sop_class_uid=sop_class,
            sop_instance_uid=uid,
            path=write_instance(data / "made", uid, sop_class_uid=sop_class),
        )
        for result, destination, sop_class, uid in (
            ("report", "pacs", ENHANCED_SR, "2.25.1"),
            ("report_basic", None, BASIC_TEXT, "2.25.2"),
        )
    ]
    assert tasks.finish(engine, task, made, at(11), refused=refused)
    return task


def test_status_names_what_a_destination_refuses_and_what_it_gets(engine, status):
    found = {uid: () if uid == SEGMENTATION else UNCOMPRESSED for uid in sop_classes()}
    accepted.learn(engine, "pacs", found, at(0))

    code, told = status()

    rows = {row["does_not_take"].split()[0]: row for row in told["Not taken"]}
    assert code == 0
    assert sorted(rows) == ["bands", "segmentation"]
    assert rows["bands"]["to"] == "pacs"
    assert rows["bands"]["gets_instead"] == "overlay"
    assert rows["bands"]["does_not_take"] == "bands (Segmentation Storage)"


def test_status_says_what_to_allow_where_nothing_stands_in(engine, status):
    accepted.learn(engine, "pacs", dict.fromkeys(sop_classes(), ()), at(0))

    _, told = status()

    rows = {row["does_not_take"].split()[0]: row for row in told["Not taken"]}
    assert rows["report"]["gets_instead"] == f"nothing: allow {ENHANCED_SR} at the destination"


def test_study_tells_what_was_not_offered(engine, config, status):
    refused = RefusedResult(destination="pacs", result="bands", instead="overlay")
    task = done(engine, config / "data", refused=[refused])

    _, told = status(STUDY_UID)

    assert told["not_taken"] == [
        {
            "task": task.id,
            "to": "pacs",
            "does_not_take": "bands (Segmentation Storage)",
            "got_instead": "overlay",
        }
    ]


def test_report_refused_at_the_door_is_followed_by_its_stand_in(engine, config, status):
    task = done(engine, config / "data")
    (owed,) = outbox.of_task(engine, task.id)

    outbox.refuse(engine, owed, status=None, reason="no context", now=at(20), instead=FALLBACKS)

    report, basic = outbox.of_task(engine, task.id)
    assert (report.state, basic.state) == (DeliveryState.REFUSED, DeliveryState.WAITING)
    assert (basic.result, basic.destination) == ("report_basic", "pacs")
    _, told = status(STUDY_UID)
    assert told["not_taken"][0]["got_instead"] == "report_basic"
    _, whole = status()
    (complaint,) = whole["Waits for a person"]
    assert complaint["what happened"] == "no context; report_basic is sent instead"


def test_stand_in_that_is_refused_too_is_not_sent_again(engine, config):
    task = done(engine, config / "data")
    for _ in range(2):
        for owed in outbox.due(engine, "pacs", at(100)):
            outbox.refuse(engine, owed, status=0xC000, reason="no", now=at(20), instead=FALLBACKS)

    assert {one.state for one in outbox.of_task(engine, task.id)} == {DeliveryState.REFUSED}
    assert outbox.due(engine, "pacs", at(100)) == ()


def test_refusal_at_the_door_is_remembered_for_the_next_task(engine, config):
    accepted.learn(engine, "pacs", dict.fromkeys(sop_classes(), UNCOMPRESSED), at(0))
    task = done(engine, config / "data")
    (owed,) = outbox.of_task(engine, task.id)

    outbox.refuse(engine, owed, status=None, reason="no context", now=at(20), instead=FALLBACKS)

    assert not accepted.known(engine, ["pacs"])["pacs"].takes(ENHANCED_SR, UNCOMPRESSED)


def test_person_who_releases_what_was_refused_has_the_destination_asked_again(
    engine, config, status
):
    accepted.learn(engine, "pacs", dict.fromkeys(sop_classes(), ()), at(0))
    task = done(engine, config / "data")
    (owed,) = outbox.of_task(engine, task.id)
    outbox.refuse(engine, owed, status=0xC000, reason="no", now=at(20))

    outbox.release(engine, owed.id, at(30))

    _, told = status()
    assert {row["asked"] for row in told["Not taken"]} == {"is asked again soon"}


def test_one_refused_object_says_nothing_about_its_kind(engine, config):
    accepted.learn(engine, "pacs", dict.fromkeys(sop_classes(), UNCOMPRESSED), at(0))
    task = done(engine, config / "data")
    (owed,) = outbox.of_task(engine, task.id)

    outbox.refuse(engine, owed, status=0xC000, reason="no", now=at(20), instead=FALLBACKS)

    assert accepted.known(engine, ["pacs"])["pacs"].takes(ENHANCED_SR, UNCOMPRESSED)
