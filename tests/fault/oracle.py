"""What must hold after any fault, by what senders were told and what lies at the PACS.

The ledger is the last to be asked: it may say what the files do not contradict. Each function
fails with words of its own, by which a mutant is known to be caught for the right reason.
"""

import hashlib
import os
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType

from blake3 import blake3
from pydicom import dcmread
from sqlalchemy import Engine

from node.landed import from_message
from node.ledger import instances, outbox, tasks
from node.standin import StandInPacs
from node.task import DeliveryState, State

LOST = "acknowledged, and lost"
NOT_WHOLE = "a final file is not what its name says"
LEFT_OVER = "an unfinished file is left over"
UNKNOWN = "acknowledged, and not in the ledger"
NOT_ONCE = "not queued exactly once"
UNFILED = "acknowledged, and never brought to its place"
NOT_DURABLE = "a power cut would take what was acknowledged"
UNTAKEN = "offered again, and not taken"
UNANSWERED = "acknowledged, and never answered"
NOT_ONE_SET = "the PACS has not one set of results"
STATUS = "a status that sends the sender away for good"
ABANDONED = "nobody took over what a silent worker holds"
ZOMBIE = "the result of a lost lease counted"

#: What a sender may be told while something fails: taken, or try again.
HONEST = frozenset({0x0000, *range(0xA700, 0xA800)})


def digest_of(content: bytes) -> str:
    """Return the hash of a data set: of what follows the File Meta Information (PS3.10 7.1)."""
    length = int.from_bytes(content[140:144], "little")
    return hashlib.sha256(content[144 + length :]).hexdigest()


def digests(files: Collection[Path]) -> dict[str, str]:
    """Return SOP Instance UID to the hash of its data set."""
    return {uid_of(file): digest_of(file.read_bytes()) for file in files}


def uid_of(file: Path) -> str:
    return str(dcmread(file, specific_tags=["SOPInstanceUID"]).SOPInstanceUID)


def landed(data: Path) -> dict[str, str]:
    """Return what was answered for and is not filed yet: where a start finds it."""
    found = {}
    for path in landings(data):
        with suppress(FileNotFoundError):  # filed just now
            _, one = from_message(os.getxattr(path, "user.pellucid.landed"))
            content = path.read_bytes()
            if blake3(content).hexdigest() == one.part.digest:
                found[one.sop_instance_uid] = digest_of(content)
    return found


def landings(data: Path) -> list[Path]:
    """Return the files that something is known of, though not in the ledger yet."""
    found = []
    for path in (data / "objects" / "landing").glob("*.landing"):
        with suppress(FileNotFoundError):  # filed just now
            found += [path] if "user.pellucid.landed" in os.listxattr(path) else []
    return found


def require_filed(data: Path) -> None:
    """Require that nothing waits for its place in the store and the ledger."""
    assert landings(data) == [], UNFILED


def require_kept(
    acknowledged: Mapping[str, str], data: Path, landed: Mapping[str, str] = MappingProxyType({})
) -> None:
    """Require every acknowledged data set, byte for byte, in a final file, or where it landed."""
    kept = {digest_of(path.read_bytes()) for path in final_files(data)} | set(landed.values())
    lost = [uid for uid, digest in acknowledged.items() if digest not in kept]
    assert lost == [], LOST


def require_whole(data: Path) -> None:
    """Require every final file to be named by the hash of its content, and to be read."""
    for path in final_files(data):
        assert blake3(path.read_bytes()).hexdigest() == path.stem, NOT_WHOLE
        assert dcmread(path).SOPInstanceUID, NOT_WHOLE


def require_nothing_left_over(data: Path) -> None:
    """Require no part of a file; after a restart, or after a fault that was no death."""
    assert list(data.rglob("*.part")) == [], LEFT_OVER


def require_known(acknowledged: Collection[str], engine: Engine, study: str) -> None:
    """Require each acknowledged instance once among those that a model would read."""
    known = [one.sop_instance_uid for one in instances.of_study(engine, study)]
    assert len(known) == len(set(known)), NOT_ONCE
    assert set(acknowledged) <= set(known), UNKNOWN


def require_queued_once(engine: Engine, study: str) -> None:
    """Require one task that was done, and none that waits, failed or was given up."""
    states = [task.state for task in tasks.of_study(engine, study)]
    assert states.count(State.DONE) == 1, f"{NOT_ONCE}: {states}"
    # A study that fell silent in the middle has an earlier generation, which was cancelled.
    assert set(states) <= {State.DONE, State.CANCELLED}, f"{NOT_ONCE}: {states}"


def nothing_owed(engine: Engine, study: str) -> bool:
    """Return whether every task of a study has ended, and every delivery is settled."""
    found = tasks.of_study(engine, study)
    waiting = [each for task in found for each in outbox.of_task(engine, task.id)]
    ended = all(task.state not in (State.READY, State.RUNNING) for task in found)
    return ended and all(each.state is not DeliveryState.WAITING for each in waiting)


def require_one_set(pacs: StandInPacs, study: str, kinds: Collection[str]) -> None:
    """Require one object of each SOP class at the PACS, whole, and nothing else of the study."""
    found = [dcmread(path) for path in results(pacs, study)]
    assert sorted(str(one.SOPClassUID) for one in found) == sorted(kinds), NOT_ONE_SET


def results(pacs: StandInPacs, study: str) -> list[Path]:
    """Return what lies at the PACS of a study; one file a SOP Instance UID."""
    return [
        path
        for path in pacs.folder.glob("*.dcm")
        if dcmread(path, specific_tags=["StudyInstanceUID"]).StudyInstanceUID == study
    ]


def require_honest(statuses: Collection[int]) -> None:
    """Require that nobody was sent away for good because something failed here."""
    assert [hex(status) for status in statuses if status not in HONEST] == [], STATUS


def require_dropped(log: str, *, lost: int, counted: int) -> None:
    """Require that the attempt which lost its lease was dropped, and the other one counted."""
    done = [line for line in log.splitlines() if "event=task_done" in line]
    dropped = [line for line in log.splitlines() if "event=lease_lost" in line]
    assert [f"attempt={counted}" in line for line in done] == [True], ZOMBIE
    assert [f"attempt={lost}" in line for line in dropped] == [True], ZOMBIE


def final_files(data: Path) -> list[Path]:
    return list((data / "objects").rglob("*.dcm"))
