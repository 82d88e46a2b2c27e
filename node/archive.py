"""An archive that is asked for a patient's earlier reports: by DIMSE, or by DICOMweb."""

from dataclasses import dataclass
from typing import Protocol

from pydicom import Dataset

from node.config import Peer
from node.dicomweb import retrieved_over_web, search_over_web
from node.peer import Timeouts
from node.query import fetch_series, find

#: SOP classes that reports of ours are, now and in earlier versions.
_REPORTS = (
    "1.2.840.10008.5.1.4.1.1.88.11",
    "1.2.840.10008.5.1.4.1.1.88.22",
    "1.2.840.10008.5.1.4.1.1.88.33",
    "1.2.840.10008.5.1.4.1.1.88.34",
)
#: What tells patients apart (PS3.3 C.2.2, C.2.3).
_PATIENT = ("PatientID", "IssuerOfPatientID", "PatientBirthDate")


class Archive(Protocol):
    """What is asked; every method raises ``ConnectionError`` or ``NoContextError``."""

    def studies(self, patient_id: str, until: str) -> tuple[Dataset, ...]:
        """Return what it lists of a patient's studies up to a date (VR DA)."""
        ...

    def report_series(self, study_instance_uid: str) -> tuple[str, ...]:
        """Return the Series Instance UIDs of the structured reports in a study."""
        ...

    def documents(self, study_instance_uid: str, series_uid: str) -> tuple[Dataset, ...]:
        """Return the documents of one series."""
        ...


def archive_of(peer: Peer, *, calling_ae: str, timeouts: Timeouts) -> Archive:
    """Return the way to ask a peer."""
    if peer.url:
        return WebArchive(peer=peer, timeouts=timeouts)
    return DimseArchive(peer=peer, calling_ae=calling_ae, timeouts=timeouts)


@dataclass(frozen=True, slots=True, kw_only=True)
class DimseArchive:
    """Asked by C-FIND and C-GET."""

    peer: Peer
    calling_ae: str
    timeouts: Timeouts

    def studies(self, patient_id: str, until: str) -> tuple[Dataset, ...]:
        """Return what it lists of a patient's studies up to a date."""
        keys = {"PatientID": patient_id, "StudyDate": f"-{until}"}
        wanted = ("StudyInstanceUID", "IssuerOfPatientID", "PatientBirthDate")
        return self._find("STUDY", keys, wanted)

    def report_series(self, study_instance_uid: str) -> tuple[str, ...]:
        """Return the Series Instance UIDs of the structured reports in a study."""
        keys = {"StudyInstanceUID": study_instance_uid, "Modality": "SR"}
        matches = self._find("SERIES", keys, ("SeriesInstanceUID",))
        return tuple(str(match.get("SeriesInstanceUID", "")) for match in matches)

    def documents(self, study_instance_uid: str, series_uid: str) -> tuple[Dataset, ...]:
        """Return the documents of one series."""
        return fetch_series(
            self.peer,
            (study_instance_uid, series_uid),
            _REPORTS,
            calling_ae=self.calling_ae,
            timeouts=self.timeouts,
        )

    def _find(
        self, level: str, keys: dict[str, str], wanted: tuple[str, ...]
    ) -> tuple[Dataset, ...]:
        identifier = Dataset()
        identifier.QueryRetrieveLevel = level
        for keyword in wanted:
            setattr(identifier, keyword, "")
        for keyword, value in keys.items():
            setattr(identifier, keyword, value)
        return find(self.peer, identifier, calling_ae=self.calling_ae, timeouts=self.timeouts)


@dataclass(frozen=True, slots=True, kw_only=True)
class WebArchive:
    """Asked by QIDO-RS and WADO-RS."""

    peer: Peer
    timeouts: Timeouts

    def studies(self, patient_id: str, until: str) -> tuple[Dataset, ...]:
        """Return what it lists of a patient's studies up to a date."""
        filters = {"PatientID": patient_id, "StudyDate": f"-{until}"}
        return search_over_web(
            self.peer, "", filters, fields=(*_PATIENT, "StudyDate"), timeouts=self.timeouts
        )

    def report_series(self, study_instance_uid: str) -> tuple[str, ...]:
        """Return the Series Instance UIDs of the structured reports in a study."""
        matches = search_over_web(
            self.peer, study_instance_uid, {"Modality": "SR"}, fields=(), timeouts=self.timeouts
        )
        return tuple(str(match.get("SeriesInstanceUID", "")) for match in matches)

    def documents(self, study_instance_uid: str, series_uid: str) -> tuple[Dataset, ...]:
        """Return the documents of one series."""
        series = (study_instance_uid, series_uid)
        return retrieved_over_web(self.peer, series, timeouts=self.timeouts)
