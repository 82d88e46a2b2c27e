"""A patient's earlier AI report at the PACS stands beside the new one, by each way of asking."""

import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread

from dicom_io.header import read_header
from dicom_io.study import group_studies
from node.child import ChildSettings
from node.config import Config, Peer, PriorSettings
from node.ledger import outbox, studies, tasks
from node.priors import priors_of
from node.task import PlannedTask, State
from node.worker import Worker, WorkerSettings
from tests.build_ledger import arrive, ledger_url, new_ledger
from tests.fakes import ball_config, ball_files, bright_bundle
from tests.orthanc import Orthanc, orthanc

pytestmark = pytest.mark.peers

LONG_AGO = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def dated_files(folder: Path, seed: str, day: str) -> tuple[Path, ...]:
    """Write a study of one day of the one patient."""
    paths = ball_files(folder, seed=seed)
    for path in paths:
        dataset = dcmread(path)
        dataset.StudyDate, dataset.PatientBirthDate = day, "19500102"
        dataset.save_as(path)
    return paths


@pytest.fixture
def bundle(tmp_path):
    return bright_bundle(tmp_path / "bundle")


def config_for(folder: Path, bundle: Path, peer: Peer) -> Config:
    config = ball_config(folder, bundle, {"pacs": 104})
    (route,) = config.routes
    asking = replace(route, priors=PriorSettings(archive="pacs", seconds=20.0), results=("report",))
    node = replace(config.node, database=ledger_url(folder), ae_title="PELLUCID")
    return replace(config, node=node, routes=(asking,), peers={"pacs": peer})


def reports_of(folder: Path, config: Config, paths: tuple[Path, ...]) -> list[Path]:
    """Have a worker with a real child work on a study; return its reports."""
    engine = new_ledger(folder)
    for path in paths:
        arrive(engine, path)
    uid = str(dcmread(paths[0]).StudyInstanceUID)
    planned = [PlannedTask(route="bright", config_hash="ab", quiet_seconds=0.0)]
    (task_id,) = studies.complete(engine, uid, planned, now=LONG_AGO + timedelta(seconds=1))
    worker = Worker(
        engine,
        WorkerSettings(
            name="worker-0",
            config=config,
            child=ChildSettings(folder=folder / "work"),
            software_version="0.1",
        ),
        threading.Event(),
    )
    try:
        worker._child.start()
        worker.work_once()
        (task,) = tasks.of_study(engine, uid)
        assert (task.id, task.state, task.error) == (task_id, State.DONE, "")
        return [one.path for one in outbox.of_task(engine, task_id)]
    finally:
        worker.end()
        engine.dispose()


def text_of(path: Path) -> str:
    found: list[str] = []

    def collect(_parent: Dataset, element) -> None:
        if element.keyword == "TextValue":
            found.append(str(element.value))

    dcmread(path).walk(collect)
    return "\n".join(found)


def at(pacs: Orthanc, way: str) -> Peer:
    if way == "web":
        return Peer(name="pacs", url=f"http://127.0.0.1:{pacs.http_port}/dicom-web")
    return Peer(name="pacs", ae_title=pacs.ae_title, host="127.0.0.1", port=pacs.dicom_port)


def test_earlier_report_at_the_pacs_is_compared(tmp_path, bundle):
    early = dated_files(tmp_path / "early", "early", "20250101")
    late = dated_files(tmp_path / "late", "late", "20260101")

    with orthanc(tmp_path / "orthanc", node_port=104, web=True) as pacs:
        config = config_for(tmp_path / "first", bundle, at(pacs, "dimse"))
        (first,) = reports_of(tmp_path / "first", config, early)
        for path in (*early, first):
            pacs.store(path.read_bytes())
        (study,) = group_studies(read_header(path) for path in late)
        (route,) = config.routes
        by_dimse = priors_of(config, route, study)
        by_web = priors_of(replace(config, peers={"pacs": at(pacs, "web")}), route, study)
        second_config = config_for(tmp_path / "second", bundle, at(pacs, "dimse"))
        (second,) = reports_of(tmp_path / "second", second_config, late)
        studies_there = {one["StudyInstanceUID"] for one in pacs.series()}

    assert by_dimse == by_web
    assert [str(one.study_date) for one in by_dimse.reports] == ["2025-01-01"]
    assert by_dimse.reports[0].volumes_ml
    assert "There is nothing to compare with" in text_of(first)
    assert "Study of 2025-01-01 (read from its AI report by the same model)" in text_of(second)
    assert len(studies_there) == 1
