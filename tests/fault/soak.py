"""A node under mixed load for minutes: ``python -m tests.fault.soak --minutes 20``.

Modalities send studies, others send nonsense, processes are killed now and then. A line a minute
tells how it goes; at the end everything acknowledged must be stored, and every study delivered.
"""

import argparse
import json
import random
import sys
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from pydicom import Dataset, dcmread

from node.standin import StandInPacs
from tests.build_wire import encoded
from tests.fakes import NodeProcess, ball_files, bright_bundle, kill
from tests.fault.conftest import new_uid
from tests.fault.crowd import crowd
from tests.fault.fuzzing import fragmented, make_case, play
from tests.fault.kept import known_datasets
from tests.fault.pdu import Connection
from tests.fault.vitals import Vitals, vitals

RESULTS = Path(__file__).parents[2] / "build" / "soak.json"
SLICES = 6
#: Of a whole node, after its first minutes.
MOST_GROWTH_MB = 80.0
#: Who was killed wrote into its part so shortly before; such a part goes after an hour.
KILLED_AMID_SECONDS = 2.0
#: Between two studies of a modality.
PAUSE_SECONDS = 4.0


@dataclass(kw_only=True)
class Load:
    """What the senders share."""

    port: int
    template: list[Dataset]
    stop: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)
    #: Encoded data sets that were answered by Success.
    acknowledged: set[bytes] = field(default_factory=set)
    #: Studies all of whose instances were.
    studies: set[str] = field(default_factory=set)
    #: When a process was killed, as files tell the time.
    kills: list[float] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Minute:
    """One line."""

    minute: int
    instances: int
    per_second: float
    delivered: int
    waiting: int
    memory_mb: float
    threads: int
    descriptors: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 31))
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        report = soak(Path(folder), minutes=asked.minutes, seed=asked.seed)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(report, indent=1))
    say(f"written to {RESULTS}; " + ("; ".join(report["wrong"]) or "nothing is wrong"))
    sys.exit(1 if report["wrong"] else 0)


def soak(folder: Path, *, minutes: float, seed: int) -> dict:
    """Return the figures, and sentences on what is wrong."""
    bundle = bright_bundle(folder / "bundle")
    template = [dcmread(path) for path in ball_files(folder / "study", slices=SLICES)]
    with (
        StandInPacs(folder / "pacs", ae_title="PACS") as pacs,
        NodeProcess(folder / "data", bundle, {"pacs": pacs.port}) as node,
    ):
        load = Load(port=node.port, template=template)
        start = vitals(node.pid)
        say(f"seed {seed}; at the start: {start}")
        lines = under_load(load, node, pacs, minutes=minutes, seed=seed)
        undelivered = drained(load, pacs, seconds=300)
        end = settled_down(node, lines)
        wrong = judged(load, folder / "data", undelivered, lines, end)
        counts = dict(pacs.received)
    wrong += [f"{uid} was delivered {n} times" for uid, n in counts.items() if n > 2]
    return {
        "minutes": minutes, "seed": seed, "start": asdict(start), "end": asdict(end),
        "acknowledged": len(load.acknowledged), "studies": len(load.studies),
        "delivered": len(counts), "lines": [asdict(line) for line in lines], "wrong": wrong,
    }  # fmt: skip


def under_load(load, node, pacs, *, minutes, seed) -> list[Minute]:
    chance = random.Random(seed)
    threads = [threading.Thread(target=modality, args=(load, n), daemon=True) for n in (0, 1)]
    threads += [
        threading.Thread(target=nonsense, args=(load, seed), daemon=True),
        threading.Thread(target=crowds, args=(load,), daemon=True),
    ]
    for thread in threads:
        thread.start()
    lines: list[Minute] = []
    begun = time.monotonic()
    for minute in range(1, max(1, round(minutes)) + 1):
        before = len(load.acknowledged)
        load.stop.wait(begun + 60 * minute - 30 - time.monotonic())
        if minute % 2 == 0:
            kill_one(node, load, chance)
        load.stop.wait(begun + 60 * minute - time.monotonic())
        lines.append(told(minute, load, pacs, vitals(node.pid), len(load.acknowledged) - before))
    load.stop.set()
    for thread in threads:
        thread.join(60)
    return lines


def told(minute, load, pacs, now: Vitals, new) -> Minute:
    delivered = studies_at(pacs)
    line = Minute(
        minute=minute, instances=len(load.acknowledged), per_second=round(new / 60, 1),
        delivered=len(pacs.received), waiting=len(load.studies - delivered),
        memory_mb=round(now.memory_mb, 1), threads=now.threads, descriptors=now.descriptors,
    )  # fmt: skip
    say(" ".join(f"{name}={value}" for name, value in asdict(line).items()))
    return line


def modality(load: Load, number: int) -> None:
    """Send studies; what was not acknowledged again, as a modality's own queue does."""
    while not load.stop.is_set():
        study = new_study(load.template)
        left = list(study)
        while left and not load.stop.is_set():
            with suppress(OSError):
                left = sent(load, left, size=(16000, 999)[number])
            load.stop.wait(0.2 if not left else 1.0)
        if not left:
            with load.lock:
                load.studies.add(str(study[0].StudyInstanceUID))
        load.stop.wait(PAUSE_SECONDS)


def sent(load: Load, datasets: list[Dataset], *, size: int) -> list[Dataset]:
    """Return what was not acknowledged."""
    left = list(datasets)
    # The test node admits its modality by the address of this machine.
    with Connection(load.port, "127.0.0.1") as connection:
        if not connection.associate(calling="MODALITY"):
            return left
        while left and connection.store(left[0], size=size) == 0x0000:
            with load.lock:
                load.acknowledged.add(encoded(left.pop(0)))
        connection.release()
    return left


def new_study(template: list[Dataset]) -> list[Dataset]:
    study, series, frame = new_uid(), new_uid(), new_uid()
    made = []
    for one in template:
        dataset = Dataset()
        dataset.update(one)
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study, series
        dataset.FrameOfReferenceUID, dataset.SOPInstanceUID = frame, new_uid()
        made.append(dataset)
    return made


def nonsense(load: Load, seed: int) -> None:
    number = 0
    while not load.stop.wait(1.0):
        number += 1
        with suppress(OSError):
            play(make_case(seed, number, [fragmented()]), load.port, "127.0.0.7")


def crowds(load: Load) -> None:
    while not load.stop.wait(45.0):
        with suppress(OSError), crowd(load.port, "127.0.0.8", silent=20, starting=20, dripping=4):
            load.stop.wait(15.0)


def kill_one(node: NodeProcess, load: Load, chance: random.Random) -> None:
    children = node.pids_of("spawn_main") + node.pids_of("node.inference")
    if children:
        victim = chance.choice(children)
        say(f"kill -9 {victim}")
        kill(victim)
        load.kills.append(time.time())


def studies_at(pacs: StandInPacs) -> set[str]:
    """Return the studies of which anything was delivered."""
    return {
        str(dcmread(path, force=True, specific_tags=["StudyInstanceUID"]).StudyInstanceUID)
        for path in pacs.folder.glob("*.dcm")
    }


def drained(load: Load, pacs: StandInPacs, *, seconds: float) -> set[str]:
    """Return the studies that nothing was delivered of in time."""
    deadline = time.monotonic() + seconds
    pause = threading.Event()
    while (missing := load.studies - studies_at(pacs)) and time.monotonic() < deadline:
        pause.wait(2.0)
    return missing


def settled_down(node: NodeProcess, lines: list[Minute]) -> Vitals:
    """Return what the node takes when nobody sends any more."""
    deadline = time.monotonic() + 45
    pause = threading.Event()
    while time.monotonic() < deadline:
        now = vitals(node.pid)
        if now.threads <= lines[0].threads and now.descriptors <= lines[0].descriptors:
            break
        pause.wait(1.0)
    return vitals(node.pid)


def judged(load, data: Path, undelivered, lines: list[Minute], end: Vitals) -> list[str]:
    """Return a sentence for everything that is wrong."""
    wrong = []
    lost = load.acknowledged - known_datasets(data)
    if lost:
        wrong.append(f"{len(lost)} acknowledged instances are not stored")
    if undelivered:
        wrong.append(f"{len(undelivered)} studies are not delivered")
    if not load.acknowledged or not load.studies:
        wrong.append("nothing was acknowledged: the load is none")
    third = max(1, len(lines) // 3)
    first = sum(line.memory_mb for line in lines[:third]) / third
    last = sum(line.memory_mb for line in lines[-third:]) / third
    if last > first + MOST_GROWTH_MB:
        wrong.append(f"memory grows: {first:.0f} MB in the first third, {last:.0f} in the last")
    wrong += [
        f"{name}: {getattr(end, name)} at the end, {getattr(lines[0], name)} in the first minute"
        for name in ("threads", "descriptors")
        if getattr(end, name) > getattr(lines[0], name) + 10
    ]
    parts = [part for part in data.rglob("*.part") if not is_of_the_killed(part, load.kills)]
    if parts:
        wrong.append(f"{len(parts)} parts of files are left by who was not killed")
    return wrong


def is_of_the_killed(part: Path, kills: list[float]) -> bool:
    written = part.stat().st_mtime
    return any(0 <= killed - written < KILLED_AMID_SECONDS for killed in kills)


def say(text: str) -> None:
    sys.stdout.write(f"{time.strftime('%H:%M:%S')} {text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
