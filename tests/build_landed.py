"""Instances that have landed, and a recorder that keeps them."""

import select
import threading
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from dicom_io.part10 import part10_head
from node.entries import Entries
from node.keeping import Keeping
from node.landed import Landed
from node.part import Part
from node.recorder import Recorder
from node.recorder_link import RecorderLink, link_ends
from node.slots import PartInMemory
from node.task import Reception
from tests.build_wire import DEVICE_UID, EXPLICIT, MR_IMAGE, encoded, image

STUDY = "1.2.3"
SOON = 60.0


@contextmanager
def recording(ledger, data, turn, landing=None):
    """Run a recorder in a thread; give the receiver's end of its link."""
    ours, theirs = link_ends()
    how = Keeping(data=data, device_uid=DEVICE_UID, strict=True)
    entries = Entries(ledger, turn)
    recorder = Recorder(entries, how, theirs, landing=landing)
    recorder.start()

    def run():
        with closing(theirs), closing(entries), closing(recorder):
            recorder.run()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    with closing(RecorderLink(ours)) as link:
        yield link
    thread.join(SOON)
    assert not thread.is_alive()


def landed(data, number, content=None, **changes):
    """Return one instance of the study that has landed."""
    uid = f"1.2.3.4.{number}"
    with Part(data) as part:
        part.write(part10_head(MR_IMAGE, uid, EXPLICIT))
        part.write(encoded(image(uid)) if content is None else content)
        finished = part.finish()
    made = Landed(
        sop_class_uid=MR_IMAGE,
        sop_instance_uid=uid,
        transfer_syntax_uid=EXPLICIT,
        reception=Reception(
            called_ae="PELLUCID", calling_ae="CT1", address="10.0.0.1", at=datetime.now(UTC)
        ),
        part=finished,
    )
    return replace(made, **changes)


def landed_in_memory(slots, data, number, content=None):
    """Return the same, in a slot."""
    made = landed(data, number, content)
    part = PartInMemory(slots, slots.take())
    part.write((data / "objects" / "parts" / made.part.name).read_bytes())
    (data / "objects" / "parts" / made.part.name).unlink()
    return replace(made, part=part.finish())


def keep_at_once(link, all_landed):
    """Have all of them kept; return what each was told, in their order."""
    told = {}
    for number, each in enumerate(all_landed):
        link.keep(each, lambda status, number=number: told.setdefault(number, status))
    hear(link, lambda: len(told) == len(all_landed))
    return [told[number] for number in range(len(all_landed))]


def hear(link, is_enough):
    while not is_enough():
        assert select.select([link], [], [], SOON)[0]
        link.hear()


def held(link, made):
    return link.slots.content(made.part.slot)[: made.part.size]


def pixels(count):
    """Return the attributes of an image of so many bytes of pixels."""
    rows = count // 2048
    return {"Rows": rows, "Columns": 1024, "PixelData": bytes(rows * 2048)}


def threads_that_wait_for(file: Path):
    """Return the lines of the kernel that say so (proc_locks(5))."""
    inode = file.stat().st_ino
    lines = Path("/proc/locks").read_text().splitlines()
    return [line for line in lines if " -> " in line and f":{inode} " in line]
