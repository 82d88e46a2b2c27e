"""A phantom study goes through a real node: stand-in modality, receiver, worker, stand-in PACS."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pydicom import Dataset

from dicom_io.encode.source_series import Subject, encode_source_series
from node import service
from node.config import Config, Peer
from node.demo.stage import MODALITY_AE, Stage, stage_config
from node.ledger import outbox, tasks
from node.ledger.engine import Engine, open_ledger
from node.peer import send_files
from node.progress import read_progress
from node.task import Delivery, DeliveryState, State, Task

#: Called with what is going on and, where it is known, the share of it that is done.
Report = Callable[[str, float | None], None]

_LOOK_SECONDS = 0.1
_PACE = service.Pace(completion_seconds=0.2, wake_seconds=0.2)
_SUBJECT = Subject(
    patient_name="PHANTOM^PELLUCID",
    patient_id="PHANTOM",
    sex="O",
    accession_number="DEMO",
    study_description="QA phantom, not a patient",
)


class DemoError(RuntimeError):
    """The demo could not be played to its end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """What is there when the curtain falls."""

    #: Folder of the stand-in PACS: one file per object.
    pacs: Path
    #: Folder of the study as the modality sent it.
    study: Path
    #: SOP Instance UIDs that the ledger holds as delivered.
    delivered: tuple[str, ...]
    #: Name of a stage to its wall-clock seconds, in order.
    seconds: Mapping[str, float]


def play(stage: Stage, folder: Path, *, report: Report, patience_seconds: float = 600.0) -> Played:
    """Play the demo in an empty folder, with everything real but the hospital.

    Parameters
    ----------
    patience_seconds
        How long analysis and delivery may take together.

    Raises
    ------
    DemoError
        The node did not start, the task did not end well, or not in time; the message says what
        the ledger knows.
    """
    watch = _Stopwatch()
    report("making the phantom study", None)
    study_uid, files = _write_study(stage, folder / "study")
    watch.lap("make the phantom study")
    with stage.pacs(folder / "pacs") as pacs:
        config = stage_config(stage, folder / "node", pacs)
        report("starting the node", None)
        with _running(config) as port:
            watch.lap("start the node")
            _send(
                files,
                Peer(name="node", ae_title=config.node.ae_title, host="127.0.0.1", port=port),
                report,
            )
            watch.lap("send the study by C-STORE")
            waiting = _Waiting(config, study_uid, report, time.monotonic() + patience_seconds)
            task = waiting.for_task()
            watch.lap("analyze, explain, measure, encode")
            delivered = waiting.for_delivery(task)
            watch.lap("deliver the results by C-STORE")
    return Played(
        pacs=folder / "pacs", study=folder / "study", delivered=delivered, seconds=watch.laps
    )


class _Stopwatch:
    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.monotonic()

    def lap(self, name: str) -> None:
        now = time.monotonic()
        self.laps[name] = now - self._last
        self._last = now


def _write_study(stage: Stage, folder: Path) -> tuple[str, list[Path]]:
    folder.mkdir(parents=True)
    datasets = encode_source_series(
        stage.image(stage.phantom.volume),
        _SUBJECT,
        seed=stage.phantom.description,
        created=datetime.now(UTC),
        description="T1 phantom",
    )
    return str(datasets[0].StudyInstanceUID), [_written(dataset, folder) for dataset in datasets]


def _written(dataset: Dataset, folder: Path) -> Path:
    path = folder / f"{dataset.SOPInstanceUID}.dcm"
    dataset.save_as(path, enforce_file_format=True)
    return path


@contextmanager
def _running(config: Config) -> Iterator[int]:
    """Run a node while the block runs, and yield its port."""
    stop, up = threading.Event(), threading.Event()
    ports: list[int] = []
    errors: list[BaseException] = []

    def ready(port: int) -> None:
        ports.append(port)
        up.set()

    def serve() -> None:
        try:
            service.run(config, ready=ready, stop=stop, pace=_PACE)
        except (OSError, RuntimeError, ValueError) as error:
            errors.append(error)
        finally:
            up.set()

    # The children die with the thread that started them: it lives until the block ends.
    thread = threading.Thread(target=serve, name="demo node")
    thread.start()
    try:
        up.wait()
        if not ports:
            raise DemoError(f"the node did not start: {errors[0]}") from errors[0]
        yield ports[0]
    finally:
        stop.set()
        thread.join()


def _send(files: Sequence[Path], node: Peer, report: Report) -> None:
    def progress(done: int, total: int) -> None:
        report("sending the study", done / total)

    sent = send_files(node, files, calling_ae=MODALITY_AE, progress=progress)
    refused = [one.status for one in sent if one.status != 0x0000]
    if refused:
        raise DemoError(f"the node refused {len(refused)} of {len(files)} images: {refused[0]}")


class _Waiting:
    """Watches one study's way through the ledger, with a deadline."""

    def __init__(self, config: Config, study_uid: str, report: Report, deadline: float) -> None:
        self._data = config.node.data
        self._database = config.node.database
        self._study_uid = study_uid
        self._report = report
        self._deadline = deadline

    def for_task(self) -> Task:
        """Return the study's task when it is done."""
        for engine in self._looks("the analysis did not end in time"):
            found = tasks.of_study(engine, self._study_uid)
            if found and found[0].state is State.DONE:
                return found[0]
            if found and found[0].state not in {State.READY, State.RUNNING}:
                raise DemoError(f"the task ended as {found[0].state}: {found[0].error}")
            self._tell()
        raise AssertionError("the looks end only by an error")

    def for_delivery(self, task: Task) -> tuple[str, ...]:
        """Return the UIDs of the task's objects when all are delivered."""
        for engine in self._looks("the results were not delivered in time"):
            owed = outbox.of_task(engine, task.id)
            _raise_for_refusal(owed)
            done = [each for each in owed if each.state is DeliveryState.DELIVERED]
            self._report("delivering the results", len(done) / max(len(owed), 1))
            if len(done) == len(owed):
                return tuple(each.sop_instance_uid for each in done)
        raise AssertionError("the looks end only by an error")

    def _looks(self, too_late: str) -> Iterator[Engine]:
        engine = open_ledger(self._database)
        try:
            while time.monotonic() < self._deadline:
                yield engine
                time.sleep(_LOOK_SECONDS)
        finally:
            engine.dispose()
        raise DemoError(too_late)

    def _tell(self) -> None:
        for each in read_progress(self._data):
            share = each.done / each.total if each.total else None
            self._report(f"the node is busy: {each.stage}", share)


def _raise_for_refusal(owed: Sequence[Delivery]) -> None:
    for each in owed:
        if each.state in {DeliveryState.PARKED, DeliveryState.REFUSED}:
            status = "no answer" if each.status is None else f"status 0x{each.status:04X}"
            raise DemoError(f"the PACS did not take object {each.sop_instance_uid}: {status}")
