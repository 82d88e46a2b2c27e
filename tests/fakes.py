"""A whole small node for tests: a bright ball, a network that finds it, a running service.

torch is imported only where something is built: a test node's own processes do without it.
"""

import copy
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Self

from ai.models.bundle_files import hash_bundle
from ai.settings import ModelSettings
from dicom_io.codes import Code
from dicom_io.encode.source_series import Subject, encode_source_series
from dicom_io.select import Selector
from node.config import Complete, Config, NodeSettings, Peer, Route, Step, StorageSettings, site_of
from node.service import Pace
from tests.wait import until

QUICK = Pace(
    completion_seconds=0.2,
    lease_sweep_seconds=0.5,
    wake_seconds=0.2,
    retry_base_seconds=0.2,
    retry_cap_seconds=1.0,
    delivery_base_seconds=0.2,
    delivery_cap_seconds=1.0,
)
#: For a machine that is busy with other things.
PATIENCE_SECONDS = 180.0
SUBJECT = Subject(patient_name="Canary^Yellow", patient_id="CANARY-4711", sex="O")
CREATED = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
_BRIGHT = Code(value="24484000", scheme="SCT", meaning="Severe")


def ball_files(folder: Path, *, seed: str = "ball", slices: int = 12) -> tuple[Path, ...]:
    """Write an MR series with a bright ball, as a modality would send it."""
    from tests.build_bundles import ORIENTATIONS, blob_volume, make_affine

    volume = blob_volume(
        shape=(slices, 20, 24),
        affine=make_affine(ORIENTATIONS["axial"], origin_mm=(10.0, -5.0, 30.0)),
        center_mm=(20.0, 5.0, 30.0 + slices / 2),
    )
    datasets = encode_source_series(volume, SUBJECT, seed=seed, created=CREATED)
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for index, dataset in enumerate(datasets):
        path = folder / f"{index}.dcm"
        dataset.save_as(path, enforce_file_format=True)
        paths.append(path)
    return tuple(paths)


def bright_bundle(folder: Path, *, hold: Path | None = None) -> Path:
    """Write the bundle of a network that finds what is bright.

    Parameters
    ----------
    hold
        The bundle waits in the middle of its work for as long as this file exists, and writes
        ``<hold>.reached`` when it gets there.
    """
    from tests.build_bundles import SEGMENTER, bright_voxel_weights, write_bundle

    if hold is None:
        return write_bundle(folder, SEGMENTER, bright_voxel_weights())
    wait = (
        f"$lambda image: ([pathlib.Path('{hold}.reached').touch(), "
        f"[time.sleep(0.02) for _ in iter(pathlib.Path('{hold}').exists, False)]], image)[1]"
    )
    preprocessing = copy.deepcopy(SEGMENTER["preprocessing"])
    preprocessing["transforms"].append({"_target_": "Lambdad", "keys": "image", "func": wait})
    changes = {
        "imports": [*SEGMENTER["imports"], "$import pathlib", "$import time"],
        "preprocessing": preprocessing,
    }
    return write_bundle(folder, SEGMENTER, bright_voxel_weights(), changes=changes)


def ball_config(data: Path, bundle: Path, pacs: Mapping[str, int], *, port: int = 0) -> Config:
    """Return a configuration whose one route sends what is bright to every PACS.

    Parameters
    ----------
    pacs
        Name of each PACS to its port on this machine.
    """
    node = NodeSettings(
        data=data, database=f"sqlite:///{data / 'ledger.sqlite'}", bind="127.0.0.1", port=port
    )
    peers = {
        name: Peer(name=name, ae_title=name.upper(), host="127.0.0.1", port=number)
        for name, number in pacs.items()
    }
    modality = Peer(name="mr1", ae_title="MODALITY", host="127.0.0.1", port=104)
    route = Route(
        name="bright",
        steps=(Step(model="bright"),),
        select=(Selector(name="t1", conditions={"Modality": "MR"}),),
        complete=Complete(quiet_seconds=1.0),
        results=("report", "segmentation"),
        send_to=tuple(pacs),
    )
    return Config(
        node=node,
        site=site_of(node, institution="Test Hospital"),
        storage=StorageSettings(reserve_gb=0.0),
        peers={**peers, modality.name: modality},
        routes=(route,),
        models={"bright": bright_settings(bundle)},
    )


def bright_settings(bundle: Path) -> ModelSettings:
    """Return what the configuration says of the bundle: trusted, as it is now."""
    return ModelSettings(
        name="bright",
        bundle=bundle,
        trusted=True,
        sha256=hash_bundle(bundle),
        labels={1: _BRIGHT},
    )


class NodeProcess:
    """A node in processes of its own, which may be killed.

    Parameters
    ----------
    options
        Further ones of ``run_node.py``.
    environment
        What its processes find there beside the test's own.
    """

    def __init__(
        self,
        data: Path,
        bundle: Path,
        pacs: Mapping[str, int],
        *,
        options: Sequence[str] = (),
        environment: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._data = data
        self._log = data.with_suffix(".log")
        self._command = (
            sys.executable,
            str(Path(__file__).with_name("run_node.py")),
            str(data),
            str(bundle),
            *(f"{name}={port}" for name, port in pacs.items()),
        )
        self._options = tuple(options)
        self._environment = dict(environment)
        self._process: subprocess.Popen[bytes] | None = None
        #: 0 before the first start; then kept, so that senders find a restarted node.
        self.port = 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def runs(self) -> bool:
        """Whether its main process is there."""
        return self._process is not None and self._process.poll() is None

    @property
    def log(self) -> str:
        return self._log.read_text()

    def until(self, condition: Callable[[], object]) -> None:
        """Wait for a condition; tell the node's log if it does not come true."""
        until(condition, seconds=PATIENCE_SECONDS, why=lambda: self.log)

    def start(self) -> None:
        """Start it and wait until it receives."""
        told = self._data.with_suffix(".port")
        told.unlink(missing_ok=True)
        environment = {**os.environ, "OMP_NUM_THREADS": "1", **self._environment}
        command = [*self._command, str(told), str(self.port), *self._options]
        with self._log.open("ab") as log:
            # A group of its own: what ends all of it at once is a power cut.
            self._process = subprocess.Popen(command, stderr=log, env=environment, process_group=0)
        self.until(lambda: told.exists() or self._process.poll() is not None)
        assert told.exists(), self.log
        self.port = int(told.read_text())

    def stop(self) -> int:
        """Ask it to stop; return its exit status."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(60)

    def kill_everything(self) -> None:
        """End all its processes at once, as a power cut would."""
        for pid in [self.pid, *descendants(self.pid)]:
            kill(pid)
        self.wait()

    def wait(self) -> None:
        assert self._process is not None
        self._process.wait(60)

    def pids_of(self, word: str) -> list[int]:
        """Return its processes whose command line or name holds ``word``."""
        return [pid for pid in descendants(self.pid) if word in command_of(pid)]


def kill(pid: int) -> None:
    """End a process without asking, if it is there."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def descendants(pid: int) -> list[int]:
    """Return all processes below ``pid``, nearest first."""
    parents = dict(_parents())
    found = [pid]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found[1:]


def alive(pids: Sequence[int]) -> list[int]:
    """Return those of the processes that still run; a zombie does not."""
    return [pid for pid in pids if command_of(pid)]


def command_of(pid: int) -> str:
    """Return a process's command line; empty if it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _parents() -> Iterator[tuple[int, int]]:
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            fields = (folder / "stat").read_text().rsplit(")", 1)[1].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        yield int(folder.name), int(fields[1])
