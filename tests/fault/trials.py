"""Crashes and faults under one order: a receiver alone, or a whole node with its PACS."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self

from pydicom import dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.uid import EnhancedSRStorage, ExplicitVRLittleEndian, SegmentationStorage

from node import completion
from node.config import Peer
from node.ledger import instances, tasks
from node.ledger.engine import Engine, open_ledger
from node.peer import Timeouts, associate, contexts_for, echo, store, stored_object
from node.standin import StandInPacs
from node.sweep import sweep_at_start
from node.task import PlannedTask
from tests.build_wire import image
from tests.fakes import NodeProcess, alive, ball_files, bright_bundle
from tests.fault import oracle
from tests.fault.points import Act, Faults
from tests.wait import until

KINDS = (EnhancedSRStorage, SegmentationStorage)
_PATIENCE_SECONDS = 60.0
#: Longer than it takes until something is tried again.
_FILED_SECONDS = 10.0
#: With a ledger in a file, senders have their answers when somebody comes there.
AFTER_THE_ANSWER = frozenset(
    {
        "pellucid.store.renamed",
        "pellucid.store.folder_synced",
        "pellucid.ledger.instance_written",
        "pellucid.ledger.instance_committed",
    }
)


def passed_before(point: str) -> int:
    """Return how often a receiver may pass a point before an order counts: it is amid then.

    Many images are entered into a ledger at once.
    """
    return 0 if point.startswith("pellucid.ledger.") else 1


#: A sender waits no longer than this for an answer that does not come.
_TIMEOUTS = Timeouts(response=15.0)


class Modality:
    """A sender with a queue of its own: it goes on offering what was not acknowledged."""

    def __init__(self, files: Sequence[Path], port: Callable[[], int]) -> None:
        self.files = tuple(files)
        self.study = str(dcmread(files[0], specific_tags=["StudyInstanceUID"]).StudyInstanceUID)
        self._port = port
        self._digests = oracle.digests(files)
        #: SOP Instance UID to the hash of the data set.
        self.acknowledged: dict[str, str] = {}
        self.statuses: list[int] = []

    @property
    def done(self) -> bool:
        return len(self.acknowledged) == len(self.files)

    def send(self) -> None:
        """Offer once what was not acknowledged; stop at a broken line."""
        objects = [stored_object(file) for file in self.files]
        left = [one for one in objects if one.sop_instance_uid not in self.acknowledged]
        if not left:
            return
        try:
            with associate(
                self._peer, contexts_for(left), calling_ae="MODALITY", timeouts=_TIMEOUTS
            ) as association:
                for item in left:
                    status = store(self._peer, association, item)
                    self.statuses.append(status)
                    if status == 0x0000:
                        uid = item.sop_instance_uid
                        self.acknowledged[uid] = self._digests[uid]
        except ConnectionError:
            return

    def finds_somebody(self) -> bool:
        return echo(self._peer, calling_ae="MODALITY").ok

    @property
    def _peer(self) -> Peer:
        return Peer(name="node", ae_title="PELLUCID", host="127.0.0.1", port=self._port())


def images(folder: Path, study: str, count: int = 4) -> tuple[Path, ...]:
    """Write small images of one study."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number in range(1, count + 1):
        dataset = image(f"{study}.5.{number}", study=study)
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        path = folder / f"{number}.dcm"
        dataset.save_as(path, enforce_file_format=True)
        paths.append(path)
    return tuple(paths)


class Receiver:
    """A receiver without a node, in a process that may die."""

    def __init__(
        self, folder: Path, database: str, faults: Faults, *, journal: Path | None = None
    ) -> None:
        self.data = folder / "data"
        self.database = database
        self.faults = faults
        self._journal = journal
        self._log = folder / "receiver.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._count = 0
        self.port = 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(60)

    def start(self) -> None:
        """Start it as the main process does: on a store that was swept."""
        engine = open_ledger(self.database, migrate=True)
        sweep_at_start(engine, self.data)
        engine.dispose()
        told = self.data.with_suffix(".port")
        told.unlink(missing_ok=True)
        program = Path(__file__).parents[1] / "run_receiver.py"
        command = [sys.executable, program, self.data, told, 0, self.database]
        with self._log.open("ab") as log:
            self._process = process = subprocess.Popen(
                [str(word) for word in command],
                stderr=log,
                env={**os.environ, **self.faults.environment(journal=self._journal)},
                process_group=0,
            )
        self.until(lambda: told.exists() or process.poll() is not None)
        assert told.exists(), self.log()
        self.port = int(told.read_text())

    @property
    def runs(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def new_study(self) -> Modality:
        """Return a modality with images of one study."""
        self._count += 1
        study = f"1.2.3.{self._count}"
        return Modality(images(self.data.parent / study, study), lambda: self.port)

    def log(self) -> str:
        return self._log.read_text()

    def until(self, condition: Callable[[], object]) -> None:
        until(condition, seconds=_PATIENCE_SECONDS, why=self.log)

    def wait(self) -> None:
        """Return when it has died."""
        assert self._process is not None
        self._process.wait(_PATIENCE_SECONDS)


def kill_a_receiver(receiver: Receiver, point: str) -> None:
    """Have a receiver die at a point while it receives; then start it again, and look."""
    modality = receiver.new_study()
    receiver.faults.order(point, Act.KILL, skip=passed_before(point))
    modality.send()
    receiver.until(lambda: receiver.faults.hit)
    receiver.wait()
    assert not modality.done or point in AFTER_THE_ANSWER, "it died after all was said"
    require_nothing_lost(receiver, modality)

    receiver.start()
    oracle.require_filed(receiver.data)
    require_nothing_lost(receiver, modality)
    modality.send()
    require_nothing_lost(receiver, modality)
    require_taken(receiver, modality)


def require_nothing_lost(place: "Receiver | Hospital", modality: Modality) -> None:
    """Require what must hold at any moment, also before anything is repaired.

    What was acknowledged is in its place and in the ledger, or whole where a start finds it.
    """
    # In this order: what is filed meanwhile is found afterwards.
    landed = oracle.landed(place.data)
    oracle.require_kept(modality.acknowledged, place.data, landed)
    oracle.require_whole(place.data)
    filed = modality.acknowledged.keys() - landed.keys()
    with ledger_at(place.database) as engine:
        oracle.require_known(filed, engine, modality.study)


def require_taken(receiver: Receiver, modality: Modality) -> None:
    """Require that in the end all was taken, nothing is left over and it is queued once."""
    assert modality.done, f"{oracle.UNTAKEN}: {[hex(one) for one in modality.statuses]}"
    until_filed(receiver)
    require_nothing_lost(receiver, modality)
    oracle.require_nothing_left_over(receiver.data)
    with ledger_at(receiver.database) as engine:
        _complete(engine)
        _complete(engine)
        queued = tasks.of_study(engine, modality.study)
        read = instances.of_study(engine, modality.study, queued[0].generation if queued else 0)
    assert len(queued) == 1, oracle.NOT_ONCE
    assert sorted(one.sop_instance_uid for one in read) == sorted(modality.acknowledged)


def until_filed(place: "Receiver | Hospital") -> None:
    """Wait until nothing waits for its place, which takes moments."""
    with suppress(TimeoutError, AssertionError):
        until(lambda: not oracle.landings(place.data), seconds=_FILED_SECONDS)
    oracle.require_filed(place.data)


@contextmanager
def ledger_at(database: str) -> Iterator[Engine]:
    engine = open_ledger(database)
    try:
        yield engine
    finally:
        engine.dispose()


def _complete(engine: Engine) -> None:
    later = datetime.now(UTC) + timedelta(hours=1)
    planned = [PlannedTask(route="head", config_hash="ab", quiet_seconds=0.0)]
    completion.tick(engine, lambda _study, _receptions: planned, later)


class Hospital:
    """A node, its PACS, and a modality that sends one study after the other."""

    def __init__(
        self, folder: Path, node: NodeProcess, pacs: StandInPacs, faults: Faults, *, database: str
    ) -> None:
        self.data = folder / "data"
        self.node = node
        self.pacs = pacs
        self.faults = faults
        self._folder = folder
        self.database = database
        self._count = 0

    def new_study(self) -> Modality:
        """Return a modality that has scanned somebody."""
        self._count += 1
        seed = f"{self._folder.name}-{self._count}"
        files = ball_files(self._folder / f"study-{self._count}", seed=seed)
        return Modality(files, lambda: self.node.port)

    def until_it_died(self, *, whole: bool) -> None:
        """Wait for the death that was ordered; start the node again if it does not by itself."""
        self.node.until(lambda: self.faults.victim)
        victim = self.faults.victim
        self.node.until(lambda: alive([victim]) == [])
        if whole or victim == self.node.pid:
            self.node.wait()
            self.node.start()
            oracle.require_nothing_left_over(self.data)

    def send(self, modality: Modality) -> None:
        """Have the modality send until everything is acknowledged."""
        self.node.until(modality.finds_somebody)
        modality.send()

    def until_answered(self, modality: Modality, seconds: float) -> None:
        """Wait until the PACS has something of each kind, and the node owes nothing more."""
        until(
            lambda: (
                len(oracle.results(self.pacs, modality.study)) >= len(KINDS)
                and self._owes_nothing(modality.study)
            ),
            seconds=seconds,
            why=lambda: f"{oracle.UNANSWERED}\n{self.node.log[-3000:]}",
        )

    def require_all_is_well(self, modality: Modality) -> None:
        """Require what must hold when a study has gone through."""
        until_filed(self)
        require_nothing_lost(self, modality)
        oracle.require_one_set(self.pacs, modality.study, KINDS)
        with ledger_at(self.database) as engine:
            oracle.require_queued_once(engine, modality.study)

    def attempts(self, modality: Modality) -> int:
        """Return how often the study was begun."""
        with ledger_at(self.database) as engine:
            return max(task.attempt for task in tasks.of_study(engine, modality.study))

    def times_sent(self, modality: Modality) -> int:
        """Return how often the PACS has got that object which it has got most often."""
        kept = oracle.results(self.pacs, modality.study)
        return max(self.pacs.received[path.stem] for path in kept)

    def _owes_nothing(self, study: str) -> bool:
        with ledger_at(self.database) as engine:
            return oracle.nothing_owed(engine, study)


@contextmanager
def a_hospital(
    folder: Path,
    database: str,
    faults: Faults,
    *,
    options: Sequence[str] = (),
    hold: Path | None = None,
) -> Iterator[Hospital]:
    """Run a node with a network that finds what is bright, and a PACS, for as long as the block.

    Parameters
    ----------
    hold
        See ``bright_bundle``; if it is relative, each child has its own.
    """
    bundle = bright_bundle(folder / "bundle", hold=hold)
    with (
        StandInPacs(folder / "pacs", ae_title="PACS") as pacs,
        NodeProcess(
            folder / "data",
            bundle,
            {"pacs": pacs.port},
            options=(f"--database={database}", "--quiet-seconds=2", *options),
            environment=faults.environment(),
        ) as node,
    ):
        yield Hospital(folder, node, pacs, faults, database=database)


def crash(
    hospital: Hospital,
    point: str,
    act: Act,
    *,
    after: Sequence[str] = (),
    seconds: float = 120.0,
) -> Modality:
    """Have a process, or all, die at a point while a study goes through; see it go through."""
    modality = hospital.new_study()
    hospital.faults.order(point, act, after=after)
    modality.send()
    hospital.until_it_died(whole=act is Act.CUT)
    hospital.send(modality)
    assert modality.done
    hospital.until_answered(modality, seconds)
    hospital.require_all_is_well(modality)
    return modality
