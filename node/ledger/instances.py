"""What has arrived: instances, their receptions, and who they conflict with."""

from collections.abc import Iterable
from enum import StrEnum

from sqlalchemy import Engine

from dicom_io.study import Instance
from node.task import Reception


class Added(StrEnum):
    """What the arrival of an instance meant."""

    NEW = "new"
    #: The same bytes again.
    DUPLICATE = "duplicate"
    #: Same SOP Instance UID, patient and study with other bytes: the newest counts.
    REPLACED = "replaced"
    #: Another patient or study already owns one of its UIDs; kept, and the study is quarantined.
    CONFLICT = "conflict"
    #: A result of this node that came back; recorded, never work.
    OURS = "ours"


def add(
    engine: Engine,
    instance: Instance,
    reception: Reception,
    *,
    sha256: str,
    pixels_sha256: str = "",
) -> Added:
    """Record one arrived instance, whose file is durable, in one transaction; idempotent.

    Parameters
    ----------
    sha256
        Of the stored file, hex: also its address in the store.
    pixels_sha256
        Of the value of its pixel data. An instance that replaces another one with the same pixels
        and tags opens no new generation.
    """
    raise NotImplementedError


def add_ours(engine: Engine, instance: Instance, reception: Reception, *, sha256: str) -> Added:
    """Record that a result of this node came back: a reception row and nothing else."""
    raise NotImplementedError


def of_study(
    engine: Engine, study_instance_uid: str, generation: int | None = None
) -> tuple[Instance, ...]:
    """Return the instances of one generation of a study, sorted by SOP Instance UID.

    Without ``generation``: everything that counts today, also what no generation holds yet.
    """
    raise NotImplementedError


def is_ours(engine: Engine, sop_instance_uid: str) -> bool:
    """Return whether this node has made the object of that SOP Instance UID."""
    raise NotImplementedError


def known_hashes(engine: Engine, hashes: Iterable[str]) -> frozenset[str]:
    """Return those of the content hashes that any row of the ledger refers to."""
    raise NotImplementedError
