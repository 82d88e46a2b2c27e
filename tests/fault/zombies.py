"""A worker that stands still for longer than its lease, and wakes to find its task another's."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.fakes import descendants
from tests.fault import oracle
from tests.fault.points import Faults
from tests.fault.trials import Hospital, Modality, a_hospital
from tests.wait import until

_OPTIONS = ("--workers=2", "--lease-seconds=4")


@dataclass(frozen=True, slots=True, kw_only=True)
class Team:
    """A worker and its inference child, whose work waits in the middle while ``hold`` exists."""

    worker: int
    child: int
    #: In the child's folder.
    hold: Path

    @property
    def is_held(self) -> bool:
        return Path(f"{self.hold}.reached").exists()

    def stop(self) -> None:
        for pid in (self.worker, self.child):
            os.kill(pid, signal.SIGSTOP)

    def wake(self) -> None:
        for pid in (self.child, self.worker):
            os.kill(pid, signal.SIGCONT)


def wake_while_another_works(folder: Path, database: str, faults: Faults, seconds: float) -> None:
    """Have the sleeper end first: what it made must not count."""
    with _two_workers(folder, database, faults) as hospital:
        modality, sleeper, other = _fall_asleep(hospital, seconds)
        sleeper.hold.unlink()
        sleeper.wake()
        hospital.node.until(lambda: {"event=task_done", "event=lease_lost"} & _events(hospital))
        other.hold.unlink()
        _require_one_result(hospital, modality, seconds)


def wake_after_another_has_ended(
    folder: Path, database: str, faults: Faults, seconds: float
) -> None:
    """Have the sleeper end when all has been delivered."""
    with _two_workers(folder, database, faults) as hospital:
        modality, sleeper, other = _fall_asleep(hospital, seconds)
        other.hold.unlink()
        hospital.until_answered(modality, seconds)
        sleeper.hold.unlink()
        sleeper.wake()
        hospital.node.until(lambda: "event=lease_lost" in _events(hospital))
        _require_one_result(hospital, modality, seconds)


@contextmanager
def _two_workers(folder: Path, database: str, faults: Faults) -> Iterator[Hospital]:
    with a_hospital(folder, database, faults, options=_OPTIONS, hold=Path("hold")) as hospital:
        yield hospital


def _fall_asleep(hospital: Hospital, seconds: float) -> tuple[Modality, Team, Team]:
    """Stop the one that works on a study; return it, and the other that has taken over."""
    hospital.node.until(lambda: len(hospital.node.pids_of("node.inference")) == 2)
    teams = _teams(hospital)
    for team in teams:
        team.hold.touch()
    modality = hospital.new_study()
    modality.send()
    hospital.node.until(lambda: any(team.is_held for team in teams))
    sleeper, other = sorted(teams, key=lambda team: not team.is_held)
    sleeper.stop()
    until(lambda: other.is_held, seconds=seconds, why=lambda: oracle.ABANDONED)
    return modality, sleeper, other


def _teams(hospital: Hospital) -> list[Team]:
    children = set(hospital.node.pids_of("node.inference"))
    found = {}
    for pid in descendants(hospital.node.pid):
        found.update(dict.fromkeys(children.intersection(descendants(pid)), pid))
    return [
        Team(worker=worker, child=child, hold=Path(f"/proc/{child}/cwd").readlink() / "hold")
        for child, worker in found.items()
    ]


def _events(hospital: Hospital) -> set[str]:
    return {word for word in hospital.node.log.split() if word.startswith("event=")}


def _require_one_result(hospital: Hospital, modality: Modality, seconds: float) -> None:
    hospital.until_answered(modality, seconds)
    hospital.require_all_is_well(modality)
    oracle.require_dropped(hospital.node.log, lost=1, counted=2)
    assert hospital.times_sent(modality) == 1, oracle.NOT_ONE_SET
