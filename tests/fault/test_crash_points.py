"""A process dies at every point that the source names: nothing is lost, nothing comes twice."""

import os
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dicom_io.header import read_header
from node import store
from node.ledger import studies
from node.task import Reception
from tests.build_ledger import ledger_url, new_ledger, record_arrival, write_instance
from tests.fault import oracle
from tests.fault.conftest import DATABASES
from tests.fault.points import Act, Faults, all_points
from tests.fault.trials import Receiver, a_hospital, crash, kill_a_receiver

pytestmark = pytest.mark.slow

POINTS = all_points()
OF_THE_RECEIVER = [point.name for point in POINTS if point.of_the_receiver]
OF_THE_RETENTION = [point.name for point in POINTS if point.of_the_retention]
OF_THE_NODE = [
    point.name for point in POINTS if not (point.of_the_receiver or point.of_the_retention)
]
OF_A_WORKER = [point.name for point in POINTS if point.of_a_worker]
OF_THE_STORE = [name for name in OF_THE_RECEIVER if name.startswith("pellucid.store.")]

#: A task runs when these are passed: whoever dies there costs it an attempt.
WITHIN_A_TASK = frozenset(
    {
        "pellucid.worker.claimed",
        "pellucid.inference.ordered",
        "pellucid.inference.written",
        "pellucid.worker.computed",
        "pellucid.handover.kept",
        "pellucid.worker.handed_over",
        "pellucid.ledger.task_finished",
    }
)
#: The PACS has an object then, and the ledger does not know: it is sent again, under its UID.
BEFORE_IT_IS_KNOWN = frozenset({"pellucid.deliver.answered", "pellucid.ledger.delivery_written"})
#: Tried with every run of the tests; the others by ``make fault``.
ALWAYS_TRIED = frozenset({"pellucid.worker.handed_over", "pellucid.deliver.answered"})


def new_database(request, folder):
    if request.param == "postgresql":
        return request.getfixturevalue("server").new_database()
    (folder / "data").mkdir()
    return ledger_url(folder / "data")


@pytest.fixture(scope="module", params=DATABASES)
def receiver(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(f"receiver-{request.param}")
    database = new_database(request, folder)
    with Receiver(folder, database, Faults(folder / "faults")) as started:
        yield started


@pytest.fixture(scope="module", params=DATABASES)
def hospital(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(f"hospital-{request.param}")
    database = new_database(request, folder)
    with a_hospital(folder, database, Faults(folder / "faults")) as started:
        yield started


def study_of(data, study, *, days):
    """Have a study of one image arrive long ago, which no route wants; return its file."""
    sent = write_instance(data / "sent", f"{study}.7.1", study_instance_uid=study)
    stored = store.keep(data, sent)
    at = datetime.now(UTC) - timedelta(days=days)
    os.utime(stored.path, (at.timestamp(), at.timestamp()))
    engine = new_ledger(data)
    reception = Reception(called_ae="PELLUCID", calling_ae="CT1", address="10.0.0.1", at=at)
    record_arrival(engine, read_header(stored.path), reception, digest=stored.digest)
    studies.complete(engine, study, [], now=at)
    engine.dispose()
    return stored.path


def expire(data, faults):
    """Delete what is old, and what a deletion that died has left, in a process that may die."""
    ended = subprocess.run(
        [sys.executable, Path(__file__).with_name("expire.py"), data],
        env={**os.environ, **faults.environment()},
        timeout=60,
        check=False,
    )
    return ended.returncode


def tried(act, points):
    return [
        pytest.param(
            point,
            act,
            id=f"{act}-{point.removeprefix('pellucid.')}",
            marks=[] if act is Act.KILL and point in ALWAYS_TRIED else [pytest.mark.fault],
        )
        for point in points
    ]


@pytest.mark.parametrize("point", OF_THE_RECEIVER)
def test_receiver_that_dies_loses_nothing_acknowledged(receiver, point):
    kill_a_receiver(receiver, point)


@pytest.mark.parametrize(
    ("point", "act"),
    [
        # Without its main process the whole node dies.
        *tried(Act.KILL, OF_THE_NODE),
        *tried(Act.CUT, [*OF_A_WORKER, *OF_THE_RECEIVER]),
    ],
)
def test_node_that_dies_answers_all_that_was_acknowledged_once(hospital, point, act):
    modality = crash(hospital, point, act)

    assert hospital.times_sent(modality) == (2 if point in BEFORE_IT_IS_KNOWN else 1)
    assert hospital.attempts(modality) == (2 if point in WITHIN_A_TASK else 1)


@pytest.mark.fault
@pytest.mark.parametrize("point", OF_THE_STORE)
def test_worker_that_dies_while_it_stores_makes_its_results_again(hospital, point):
    modality = crash(hospital, point, Act.KILL, after=["pellucid.worker.claimed"])

    assert hospital.times_sent(modality) == 1
    assert hospital.attempts(modality) == 2
    hospital.node.kill_everything()
    hospital.node.start()
    oracle.require_nothing_left_over(hospital.data)


@pytest.mark.parametrize("point", OF_THE_RETENTION)
def test_retention_that_dies_deletes_in_the_end_what_is_old_and_nothing_else(tmp_path, point):
    old, young = study_of(tmp_path, "1.2.826.1", days=8), study_of(tmp_path, "1.2.826.2", days=6)
    faults = Faults(tmp_path / "faults")
    faults.order(point, Act.KILL)

    died = expire(tmp_path, faults)
    between = (old.exists(), young.exists())
    expire(tmp_path, faults)

    assert died == -signal.SIGKILL
    assert between in ((True, True), (False, True))
    assert (old.exists(), young.exists()) == (False, True)


def test_every_point_that_these_tests_know_by_name_is_there():
    named = WITHIN_A_TASK | BEFORE_IT_IS_KNOWN | ALWAYS_TRIED

    assert named <= {point.name for point in POINTS}
