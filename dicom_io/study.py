"""Instance, Series and Study: stored SOP Instances, grouped as DICOM groups them."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
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
    #: What is wrong with its data set, in words: it was kept as it came, and is never analyzed.
    #: Empty for what conforms.
    nonconformance: str = ""


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


def group_studies(instances: Iterable[Instance]) -> tuple[Study, ...]:
    """Return the studies that the instances belong to, sorted by Study Instance UID.

    The order of the instances does not matter. Two instances of one SOP Instance UID are both
    kept: which of them is right is not decided here, and reading refuses them.
    """
    studies: dict[str, dict[str, list[Instance]]] = defaultdict(lambda: defaultdict(list))
    for instance in instances:
        studies[instance.study_instance_uid][instance.series_instance_uid].append(instance)
    return tuple(
        Study(
            study_instance_uid=study_uid,
            series=tuple(_series(uid, members) for uid, members in sorted(series.items())),
        )
        for study_uid, series in sorted(studies.items())
    )


def _series(uid: str, members: list[Instance]) -> Series:
    ordered = sorted(members, key=lambda member: (member.sop_instance_uid, str(member.path)))
    return Series(series_instance_uid=uid, instances=tuple(ordered))
