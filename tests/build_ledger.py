"""Ledgers with something in them: a study that arrived, a task, objects that are owed."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, SecondaryCaptureImageStorage
from sqlalchemy import Engine, select

from dicom_io.header import read_header
from dicom_io.study import Instance
from node.ledger import instances, schema, studies, tasks
from node.ledger.engine import open_ledger, reading
from node.ledger.instances import Added, Arrived
from node.task import NewDelivery, PlannedTask, Reception, Task

STUDY_UID = "1.2.826.1"
PATIENT_ID = "CANARY-4711"
LONG_AGO = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def write_instance(
    folder: Path,
    sop_instance_uid: str,
    *,
    sop_class_uid: str = MRImageStorage,
    study_instance_uid: str = STUDY_UID,
    patient_id: str = PATIENT_ID,
) -> Path:
    """Write a file that is an instance by its header, without pixels."""
    dataset = Dataset()
    dataset.SOPClassUID = sop_class_uid
    dataset.SOPInstanceUID = sop_instance_uid
    dataset.StudyInstanceUID = study_instance_uid
    dataset.SeriesInstanceUID = f"{study_instance_uid}.7"
    dataset.PatientID = patient_id
    dataset.PatientName = "Canary^Yellow"
    dataset.Modality = "MR"
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{sop_instance_uid}.dcm"
    dataset.save_as(path, enforce_file_format=True)
    return path


def new_ledger(data: Path) -> Engine:
    """Return an empty ledger in ``data``."""
    data.mkdir(parents=True, exist_ok=True)
    return open_ledger(ledger_url(data), migrate=True)


def ledger_url(data: Path) -> str:
    return f"sqlite:///{data / 'ledger.sqlite'}"


def record_arrival(engine, instance, reception, **known) -> Added:
    """Enter one arrived instance into the ledger; return what it meant."""
    arrived = Arrived(instance=instance, reception=reception, **known)
    with engine.connect() as connection:
        return instances.add_all(connection, [arrived])[0]


def is_ours(engine: Engine, sop_instance_uid: str) -> bool:
    """Return whether the ledger knows an object as one of its node."""
    made = schema.artifact.c.sop_instance_uid
    with reading(engine) as connection:
        return connection.scalar(select(made).where(made == sop_instance_uid)) is not None


def arrive(engine: Engine, path: Path, *, calling_ae: str = "MODALITY") -> Instance:
    """Record a file as received from ``calling_ae``."""
    header = read_header(path)
    reception = Reception(
        called_ae="PELLUCID", calling_ae=calling_ae, address="127.0.0.1", at=LONG_AGO
    )
    record_arrival(engine, header, reception, digest=header.sop_instance_uid.rjust(64, "0"))
    return header


def ready_task(engine: Engine, data: Path, *, route: str = "head") -> int:
    """Return the id of a READY task on a study of two instances."""
    for uid in (f"{STUDY_UID}.7.1", f"{STUDY_UID}.7.2"):
        arrive(engine, write_instance(data / "received", uid))
    planned = [PlannedTask(route=route, config_hash="ab", quiet_seconds=0.0)]
    (task_id,) = studies.complete(engine, STUDY_UID, planned, now=LONG_AGO + timedelta(seconds=1))
    return task_id


def owe(engine: Engine, data: Path, *, destination: str, count: int = 1) -> Task:
    """Return a finished task that owes ``count`` objects to a destination."""
    ready_task(engine, data)
    task = tasks.claim(engine, "worker-0", LONG_AGO + timedelta(seconds=2))
    assert task is not None
    owed = [
        NewDelivery(
            destination=destination,
            sop_class_uid=SecondaryCaptureImageStorage,
            sop_instance_uid=f"2.25.{index}",
            path=write_instance(
                data / "made", f"2.25.{index}", sop_class_uid=SecondaryCaptureImageStorage
            ),
        )
        for index in range(1, count + 1)
    ]
    assert tasks.finish(engine, task, owed, LONG_AGO + timedelta(seconds=3))
    return task
