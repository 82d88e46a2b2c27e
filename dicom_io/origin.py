"""Origin: what every object of one task shares, whatever it encodes."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """The installation, as it is written into every object (PS3.3 C.7.5.1, C.12.1)."""

    institution: str = ""
    device_serial_number: str = ""
    #: Device UID of this node: what carries it was made here and never comes back as work.
    device_uid: str
    ae_title: str = "PELLUCID"


@dataclass(frozen=True, slots=True, kw_only=True)
class Predecessor:
    """A document of ours that a new one takes the place of (PS3.3 C.17.2, C.17.2.2)."""

    study_instance_uid: str
    series_instance_uid: str
    sop_class_uid: str
    sop_instance_uid: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where the objects of one task come from; the task's identity is in these fields alone.

    Patient and study attributes are not here: encoders take them from the source's headers.
    """

    study_instance_uid: str
    #: Sorted SOP Instance UIDs of everything the task has read.
    input_sop_instance_uids: tuple[str, ...]
    #: Which generation of the study was read: corrected images may come under the same UIDs.
    generation: int = 1
    #: Name of the route, or of the model for ``pellucid analyze``.
    route: str
    #: sha256 (hex) over all that can change a result: see invariant 3 of ARCHITECTURE.md.
    config_hash: str
    #: When the study became complete, from the ledger: a retry writes the same dates.
    created: datetime
    site: Site
    software_version: str
    #: ``research`` or ``clinical``: decides ContentQualification and "not for diagnostic use".
    mode: str = "research"
    contact: str = ""
    #: What was sent of the same study before, and is superseded; never part of UIDs.
    predecessors: tuple[Predecessor, ...] = ()
