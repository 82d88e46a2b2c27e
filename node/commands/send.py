"""``pellucid send``: the DICOM files of a folder to a peer."""

from collections.abc import Sequence
from pathlib import Path

from node.answer import keeps
from node.commands.output import MisuseError, progress_bar
from node.commands.study_folder import read_study_folder
from node.config import Peer
from node.peer import Sent, send_files


def send_folder(folder: Path, peer: Peer, calling_ae: str) -> tuple[Sent, ...]:
    """Send every DICOM file in ``folder`` and return the peer's answers.

    Raises
    ------
    MisuseError
        The folder is missing, or holds no DICOM file; the peer is one of DICOMweb.
    ConnectionError
        The peer cannot be reached, refuses the association, or breaks it off.
    """
    if peer.url:
        raise MisuseError(f"{peer.name} takes objects by DICOMweb; this command sends by C-STORE")
    paths = [instance.path for instance in read_study_folder(folder).instances]
    with progress_bar() as bar:
        task = bar.add_task(f"sending to {peer.name}", total=len(paths), detail="")

        def progress(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total, detail=f"{done} of {total}")

        return send_files(peer, paths, calling_ae=calling_ae, progress=progress)


def accepted(answer: Sent) -> bool:
    """Return whether the peer has the object, be it with a warning or since earlier."""
    return answer.status is not None and keeps(answer.status)


def answer_rows(sent: Sequence[Sent]) -> list[dict[str, object]]:
    """Return one row for each object."""
    return [
        {
            "file": answer.object.path.name,
            "object": answer.object.sop_instance_uid,
            "accepted": accepted(answer),
            "status": "no presentation context"
            if answer.status is None
            else f"0x{answer.status:04X}",
        }
        for answer in sent
    ]
