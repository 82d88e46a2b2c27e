"""The worker: every task ends in the state that its end deserves, and only once."""

import logging
import sys
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dicom_io.select import Selector
from node.child import ChildSettings
from node.config import Config, Mode, NodeSettings, Peer, Route, site_of
from node.ledger import decisions, outbox, tasks
from node.progress import read_progress
from node.task import State
from node.worker import Worker, WorkerSettings
from tests.build_ledger import PATIENT_ID, STUDY_UID, ledger_url, new_ledger, ready_task
from tests.wait import until

FAKE = (sys.executable, str(Path(__file__).parents[2] / "fake_child.py"))
OF_THE_FUTURE = timedelta(days=1)


@pytest.fixture
def engine(tmp_path):
    engine = new_ledger(tmp_path)
    yield engine
    engine.dispose()


def settings(data: Path, script: str, **changes) -> WorkerSettings:
    """Return a worker whose one route makes the fake child follow ``script``."""
    node = NodeSettings(data=data, database=ledger_url(data))
    route = Route(
        name="head",
        steps=(),
        select=(Selector(name="any", conditions={"Modality": "MR"}),),
        results=(),
        send_to=("pacs",),
        contact=script,
    )
    config = Config(
        node=node,
        site=site_of(node),
        peers={"pacs": Peer(name="pacs", ae_title="PACS", host="127.0.0.1", port=104)},
        routes=(route,),
    )
    defaults = WorkerSettings(
        name="worker-0",
        config=config,
        child=ChildSettings(folder=data / "work", command=FAKE),
        software_version="0.1",
        poll_seconds=0.02,
    )
    return replace(defaults, **changes)


def work_once(engine, wanted: WorkerSettings) -> bool:
    worker = Worker(engine, wanted, threading.Event())
    try:
        return worker.work_once()
    finally:
        worker.end()


def state_of(engine, task_id: int) -> State:
    return tasks.find(engine, task_id).state


def test_without_a_task_there_is_no_work(engine, tmp_path):
    assert work_once(engine, settings(tmp_path, "ok")) is False


def test_fulfilled_task_is_done_and_owes_its_objects_from_the_store(engine, tmp_path):
    task_id = ready_task(engine, tmp_path)

    work_once(engine, settings(tmp_path, "two"))

    assert state_of(engine, task_id) is State.DONE
    owed = outbox.of_task(engine, task_id)
    assert [one.sop_instance_uid for one in owed] == ["2.25.1", "2.25.2"]
    assert {one.destination for one in owed} == {"pacs"}
    assert all((tmp_path / "objects") in one.path.parents for one in owed)
    assert all(one.path.is_file() for one in owed)


def test_task_folder_and_progress_are_gone_afterwards(engine, tmp_path):
    ready_task(engine, tmp_path)

    work_once(engine, settings(tmp_path, "ok"))

    assert list((tmp_path / "work").iterdir()) == []
    assert read_progress(tmp_path) == ()


def test_each_destination_is_owed_what_its_profile_says(engine, tmp_path):
    task_id = ready_task(engine, tmp_path)
    wanted = settings(tmp_path, "named")
    config = wanted.config
    peers = {
        "pacs": replace(config.peers["pacs"], profile="archive"),
        # Whoever sent the study.
        "mr1": Peer(name="mr1", ae_title="MODALITY", host="127.0.0.1", port=104),
    }
    route = replace(config.routes[0], results=None, send_to=("pacs", "@sender"))

    work_once(engine, replace(wanted, config=replace(config, peers=peers, routes=(route,))))

    owed = {(one.destination, one.result) for one in outbox.of_task(engine, task_id)}
    assert owed == {("pacs", "report"), ("mr1", "report"), ("mr1", "overlay")}


def test_shadow_route_keeps_its_objects_and_owes_nothing(engine, tmp_path):
    task_id = ready_task(engine, tmp_path)
    wanted = settings(tmp_path, "ok")
    shadow = replace(wanted.config.routes[0], mode=Mode.SHADOW)
    wanted = replace(wanted, config=replace(wanted.config, routes=(shadow,)))

    work_once(engine, wanted)

    assert state_of(engine, task_id) is State.DONE
    assert outbox.of_task(engine, task_id) == ()


@pytest.mark.parametrize(
    ("script", "state", "words"),
    [
        ("error", State.REJECTED, "GapError: series 1.2.3: gap of 3 mm"),
        ("out of memory", State.READY, "OutOfMemoryError"),
        ("mistake", State.FAILED, "KeyError at encode.py:7 encode"),
        ("other patient", State.FAILED, "another patient"),
        ("other study", State.FAILED, "names study 1.2.3"),
        ("other file", State.FAILED, "not its own file"),
        ("misnamed", State.FAILED, "result 'report' is of SOP class"),
        ("link", State.FAILED, "not its own file"),
        ("die", State.READY, "signal 9"),
        ("babble", State.READY, "broke the protocol"),
    ],
)
def test_error_decides_the_state_and_is_told_in_words(engine, tmp_path, script, state, words):
    task_id = ready_task(engine, tmp_path)

    work_once(engine, settings(tmp_path, script))

    task = tasks.find(engine, task_id)
    assert task.state is state
    assert words in task.error
    assert outbox.of_task(engine, task_id) == ()


@pytest.mark.parametrize("script", ["ok", "error", "mistake", "other patient", "die"])
def test_no_log_line_and_no_error_holds_patient_data(engine, tmp_path, script, caplog):
    task_id = ready_task(engine, tmp_path)

    with caplog.at_level(logging.DEBUG):
        work_once(engine, settings(tmp_path, script))

    told = tasks.find(engine, task_id).error + "".join(str(vars(one)) for one in caplog.records)
    assert PATIENT_ID not in told
    assert "Canary" not in told


def test_retry_is_not_before_its_pause(engine, tmp_path):
    task_id = ready_task(engine, tmp_path)
    before = datetime.now(UTC)

    work_once(engine, settings(tmp_path, "out of memory", retry_base_seconds=100.0))

    assert tasks.find(engine, task_id).not_before >= before + timedelta(seconds=100)
    assert work_once(engine, settings(tmp_path, "ok")) is False


def test_retries_are_used_up_and_the_task_waits_for_a_person(engine, tmp_path):
    task_id = ready_task(engine, tmp_path)
    quick = settings(tmp_path, "out of memory", retry_base_seconds=0.0)

    while work_once(engine, quick):
        pass

    task = tasks.find(engine, task_id)
    assert (task.state, task.attempt) == (State.PARKED, 5)


def test_task_whose_child_died_once_is_done_by_the_next(engine, tmp_path):
    task_id = ready_task(engine, tmp_path)

    work_once(engine, settings(tmp_path, "die once"))
    work_once(engine, settings(tmp_path, "die once"))

    task = tasks.find(engine, task_id)
    assert (task.state, task.attempt) == (State.DONE, 2)


def test_task_whose_child_died_twice_is_quarantined(engine, tmp_path):
    task_id = ready_task(engine, tmp_path)
    wanted = settings(tmp_path, "die")

    work_once(engine, wanted)
    work_once(engine, wanted)

    assert state_of(engine, task_id) is State.QUARANTINED
    assert work_once(engine, wanted) is False


def test_task_of_a_route_that_is_gone_waits_for_a_person(engine, tmp_path):
    task_id = ready_task(engine, tmp_path, route="removed")

    work_once(engine, settings(tmp_path, "ok"))

    task = tasks.find(engine, task_id)
    assert task.state is State.PARKED
    assert "'removed'" in task.error


def test_task_is_done_though_its_progress_cannot_be_put_down(engine, tmp_path):
    task_id = ready_task(engine, tmp_path)
    (tmp_path / "progress").write_text("a file where the folder should be")

    work_once(engine, settings(tmp_path, "ok"))

    assert state_of(engine, task_id) is State.DONE


def test_task_that_finds_the_disk_full_is_tried_again(engine, tmp_path):
    task_id = ready_task(engine, tmp_path)

    work_once(engine, settings(tmp_path, "disk full"))

    task = tasks.find(engine, task_id)
    assert task.state is State.READY
    assert task.error == "OSError: [Errno 28] No space left on device"


def test_hanging_task_is_ended_at_its_time_limit(engine, tmp_path):
    task_id = ready_task(engine, tmp_path)
    child = ChildSettings(folder=tmp_path / "work", command=FAKE, time_limit_seconds=1.0)

    work_once(engine, settings(tmp_path, "hang", child=child))

    task = tasks.find(engine, task_id)
    assert task.state is State.READY
    assert "not done after 1 s" in task.error


def test_a_running_task_that_a_person_cancels_is_stopped_and_its_result_dropped(engine, tmp_path):
    task_id = ready_task(engine, tmp_path)
    child = ChildSettings(folder=tmp_path / "work", command=FAKE, time_limit_seconds=60.0)
    wanted = settings(tmp_path, "hang", child=child, lease_seconds=1.0)
    thread = threading.Thread(target=work_once, args=(engine, wanted))
    thread.start()
    until(lambda: tasks.find(engine, task_id).state is State.RUNNING, seconds=30.0)

    decisions.cancel_task(engine, task_id, reason="wrong patient", now=datetime.now(UTC))

    thread.join(timeout=30.0)
    assert not thread.is_alive()
    task = tasks.find(engine, task_id)
    assert (task.state, task.error) == (State.CANCELLED, "wrong patient")
    assert outbox.of_task(engine, task_id) == ()


def test_lease_is_renewed_while_the_child_works(engine, tmp_path):
    task_id = ready_task(engine, tmp_path)
    child = ChildSettings(folder=tmp_path / "work", command=FAKE, time_limit_seconds=2.5)
    wanted = settings(tmp_path, "hang", child=child, lease_seconds=0.5)
    thread = threading.Thread(target=work_once, args=(engine, wanted))
    thread.start()
    taken_back: list[int] = []
    until(
        lambda: (
            taken_back.extend(tasks.reclaim_expired(engine, datetime.now(UTC)))
            or not thread.is_alive()
        ),
        seconds=10.0,
    )
    thread.join()

    assert taken_back == []
    assert "not done after" in tasks.find(engine, task_id).error


def test_worker_that_lost_its_task_drops_the_work(engine, tmp_path):
    task_id = ready_task(engine, tmp_path)
    wanted = settings(tmp_path, "hang", lease_seconds=0.4)
    thread = threading.Thread(target=work_once, args=(engine, wanted))
    thread.start()
    until(lambda: read_progress(tmp_path), seconds=10.0)

    tasks.reclaim_expired(engine, datetime.now(UTC) + OF_THE_FUTURE)
    other = tasks.claim(engine, "other", datetime.now(UTC) + 2 * OF_THE_FUTURE)
    thread.join(10.0)

    assert not thread.is_alive()
    task = tasks.find(engine, task_id)
    assert (task.state, task.token) == (State.RUNNING, other.token)


def test_stopping_worker_hands_its_task_back_at_once(engine, tmp_path):
    task_id = ready_task(engine, tmp_path)
    stop = threading.Event()
    worker = Worker(engine, settings(tmp_path, "hang"), stop)
    thread = threading.Thread(target=worker.run)
    thread.start()
    until(lambda: read_progress(tmp_path), seconds=10.0)

    stop.set()
    thread.join(10.0)

    task = tasks.find(engine, task_id)
    assert task.state is State.READY
    assert task.not_before <= datetime.now(UTC)


def test_progress_tells_how_much_is_explained(engine, tmp_path):
    ready_task(engine, tmp_path)
    stop = threading.Event()
    worker = Worker(engine, settings(tmp_path, "explain half"), stop)
    thread = threading.Thread(target=worker.run)
    thread.start()

    until(lambda: any(each.done for each in read_progress(tmp_path)), seconds=10.0)
    (progress,) = read_progress(tmp_path)
    stop.set()
    thread.join(10.0)

    assert (progress.stage, progress.done, progress.total) == ("analyze", 1500, 3000)


def test_progress_names_task_route_and_stage(engine, tmp_path):
    task_id = ready_task(engine, tmp_path)
    stop = threading.Event()
    thread = threading.Thread(target=Worker(engine, settings(tmp_path, "hang"), stop).run)
    thread.start()
    until(lambda: read_progress(tmp_path), seconds=10.0)

    (progress,) = read_progress(tmp_path)
    stop.set()
    thread.join(10.0)

    assert (progress.task, progress.route, progress.stage) == (task_id, "head", "analyze")
    assert progress.study_instance_uid == STUDY_UID
