"""Instance, Series and Study: stored SOP Instances, grouped as DICOM groups them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """One stored SOP Instance: its identity, where its file is, and what routing may ask of it."""

    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    #: File that holds the instance (PS3.10), whole.
    path: Path
    #: ``PatientID`` as sent, stripped; empty where the source has none.
    patient_id: str
    #: Keyword to text of the top-level elements that a route may ask for, never pixel data;
    #: several values are joined by a backslash, as DICOM writes them.
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """The instances of one series, sorted by SOP Instance UID; at least one."""

    series_instance_uid: str
    instances: tuple[Instance, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """The series of one study, sorted by Series Instance UID; at least one."""

    study_instance_uid: str
    series: tuple[Series, ...]

    @property
    def instances(self) -> tuple[Instance, ...]:
        """All instances of the study, series by series."""
        return tuple(instance for series in self.series for instance in series.instances)
