"""What a process and those below it take: threads, descriptors, memory."""

from dataclasses import dataclass
from pathlib import Path

from tests.fakes import descendants
from tests.wait import until


@dataclass(frozen=True, slots=True, kw_only=True)
class Vitals:
    """Sums over a process and its descendants."""

    threads: int
    descriptors: int
    #: Of physical memory; what processes share is counted once.
    memory_mb: float


def vitals(pid: int) -> Vitals:
    """Return what ``pid`` and the processes below it take now."""
    each = [one for one in map(_of_one, [pid, *descendants(pid)]) if one is not None]
    return Vitals(
        threads=sum(one.threads for one in each),
        descriptors=sum(one.descriptors for one in each),
        memory_mb=sum(one.memory_mb for one in each),
    )


def settled(pid: int) -> Vitals:
    """Return what they take once nothing starts or ends any more."""
    seen: list[Vitals] = []

    def steady() -> bool:
        seen.append(vitals(pid))
        last = {(one.threads, one.descriptors) for one in seen[-10:]}
        return len(seen) >= 10 and len(last) == 1

    until(steady, seconds=30)
    return seen[-1]


def no_more_than(now: Vitals, before: Vitals) -> bool:
    """Return whether no thread and no descriptor is left over."""
    return now.threads <= before.threads and now.descriptors <= before.descriptors


def _of_one(pid: int) -> Vitals | None:
    folder = Path(f"/proc/{pid}")
    try:
        status, memory = (_lines(folder / name) for name in ("status", "smaps_rollup"))
        descriptors = len(list((folder / "fd").iterdir()))
    except (FileNotFoundError, ProcessLookupError):
        return None
    return Vitals(
        threads=int(status.get("Threads", 0)),
        descriptors=descriptors,
        # The proportional set size (proc_pid_smaps(5)).
        memory_mb=int(memory.get("Pss", "0 kB").split()[0]) / 1024,
    )


def _lines(file: Path) -> dict[str, str]:
    return dict(line.split(":", 1) for line in file.read_text().splitlines() if ":" in line)
