"""What goes over the wire: data sets as bytes, a sender that can lie, a receiver to send to."""

import contextlib
import multiprocessing
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pynetdicom import _config
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_STORE

from node.errors import ConfigError, LedgerError, PortInUseError
from node.listening import Sockets, open_sockets
from node.receive import ReceiveSettings, serve
from node.recorder_link import LinkEnd, link_ends
from node.recorder_process import record, recorder_process
from node.transport import Entity
from tests.build_ledger import ledger_url, new_ledger
from tests.wait import until

MR_IMAGE = "1.2.840.10008.5.1.4.1.1.4"
VERIFICATION = "1.2.840.10008.1.1"
EXPLICIT = "1.2.840.10008.1.2.1"
DEVICE_UID = "2.25.4711"


def image(
    uid: str = "1.2.3.4.1", *, patient_id: str = "CANARY-1", study: str = "1.2.3", **changes: Any
) -> Dataset:
    """Return a small MR image whose pixels follow from its UID."""
    made = Dataset()
    made.SOPClassUID, made.SOPInstanceUID = MR_IMAGE, uid
    made.StudyInstanceUID, made.SeriesInstanceUID = study, f"{study}.4"
    made.PatientID, made.PatientName, made.Modality = patient_id, "Canary^Yellow", "MR"
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    made.Rows = made.Columns = 32
    made.BitsAllocated = made.BitsStored = 16
    made.HighBit, made.PixelRepresentation = 15, 0
    seed = np.random.default_rng(list(uid.encode("ascii", errors="replace")))
    made.PixelData = seed.integers(0, 4096, 1024, dtype=np.uint16).tobytes()
    made["PixelData"].VR = "OW"
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def encoded(dataset: Dataset) -> bytes:
    """Return the data set in explicit VR little endian, as it travels."""
    buffer = DicomBytesIO()
    buffer.is_implicit_VR, buffer.is_little_endian = False, True
    write_dataset(buffer, dataset)
    return buffer.getvalue()


@contextlib.contextmanager
def sender(port: int, *, called: str = "PELLUCID", calling: str = "CT1") -> Iterator[Association]:
    """Give an association, established or not, for echo and MR images."""
    _config.LOG_HANDLER_LEVEL = "none"
    entity = Entity(calling)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = 20
    entity.add_requested_context(VERIFICATION)
    entity.add_requested_context(MR_IMAGE, [EXPLICIT])
    association = entity.associate("127.0.0.1", port, ae_title=called)
    try:
        yield association
    finally:
        if association.is_established:
            association.release()
        association.kill()


def store(association: Association, dataset: Dataset) -> int | None:
    """Return the status of an honest C-STORE, or None if no answer came."""
    return store_bytes(association, encoded(dataset), str(dataset.SOPInstanceUID))


def store_bytes(
    association: Association, content: bytes, uid: str, *, sop_class: str = MR_IMAGE
) -> int | None:
    """Return the status of a C-STORE that claims what it likes, or None if no answer came."""
    request = C_STORE()
    request.MessageID, request.Priority = 1, 2
    request.AffectedSOPClassUID, request.AffectedSOPInstanceUID = sop_class, uid
    request.DataSet = BytesIO(content)
    (context,) = [c for c in association.accepted_contexts if c.abstract_syntax == MR_IMAGE]
    # As pynetdicom's own send_c_store: its reactor must not take the answer away.
    association._reactor_checkpoint.clear()
    until(lambda: association._is_paused or not association.is_alive(), seconds=20)
    association.dimse.send_msg(request, context.context_id)
    _, answer = association.dimse.get_msg(block=True)
    association._reactor_checkpoint.set()
    return None if answer is None else int(answer.Status)


def receive_settings(data: Path, **changes: Any) -> ReceiveSettings:
    """Return the settings of a receiver on a free local port that admits everybody."""
    new_ledger(data).dispose()
    defaults: dict[str, Any] = {
        "ae_titles": ("PELLUCID", "XAI_HEAD"),
        "bind": "127.0.0.1",
        "port": 0,
        "data": data,
        "database": ledger_url(data),
        "accept_unknown": True,
        "device_uid": DEVICE_UID,
        "floor_bytes": 0,
    }
    return ReceiveSettings(**{**defaults, **changes})


@contextlib.contextmanager
def receiver(settings: ReceiveSettings) -> Iterator[int]:
    """Run a receiver in a thread of the test; give its port."""
    with receiver_ports(settings) as (port, _):
        yield port


@contextlib.contextmanager
def receiver_ports(settings: ReceiveSettings) -> Iterator[tuple[int, int | None]]:
    """Run a receiver in a thread of the test; give its plain port, and the one with TLS."""
    stop, ports = threading.Event(), []
    errors: list[Exception] = []

    def run() -> None:
        try:
            sockets = sockets_of(settings)
            both = sockets.port, sockets.tls_port
            with recorder_thread(settings) as recorder:
                serve(settings, sockets, stop, recorder, ready=lambda: ports.append(both))
        except (ConfigError, LedgerError, PortInUseError) as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    until(lambda: ports or errors, seconds=30)
    try:
        if errors:
            raise errors[0]
        yield ports[0]
    finally:
        stop.set()
        thread.join(30)


@contextlib.contextmanager
def recorder_thread(settings: ReceiveSettings) -> Iterator[LinkEnd]:
    """Run a recorder in a thread of the test; give the receiver's end of the link to it."""
    ours, theirs = link_ends()

    def run() -> None:
        # Without a ledger the receiver says so, too.
        with contextlib.suppress(LedgerError):
            record(settings, theirs)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    with contextlib.closing(ours):
        yield ours
    thread.join(30)


def sockets_of(settings: ReceiveSettings) -> Sockets:
    """Return what a receiver of these settings listens on."""
    tls_port = None if settings.tls is None else settings.tls.port
    return open_sockets(settings.bind, settings.port, tls_port=tls_port)


@dataclass
class ReceiverProcess:
    """A receiver in a process of its own, which a test may kill."""

    process: multiprocessing.process.BaseProcess
    port: int


def start_receiver(settings: ReceiveSettings) -> ReceiverProcess:
    """Start a receiver by spawn, as the service does."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_serve, args=(settings, there), daemon=True)
    process.start()
    there.close()
    assert here.poll(60), "the receiver does not start"
    port = here.recv()
    here.close()
    return ReceiverProcess(process=process, port=port)


def _serve(settings: ReceiveSettings, answer: Any) -> None:
    sockets = sockets_of(settings)
    port = sockets.port
    with recorder_process(settings, not_its_own=[sockets]) as recorder:
        serve(settings, sockets, threading.Event(), recorder, ready=lambda: answer.send(port))
