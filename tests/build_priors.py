"""Earlier reports of ours, and archives that hold them."""

from dataclasses import dataclass, field

from pydicom import Dataset

from dicom_io.encode import report
from dicom_io.study import Instance, Series, Study
from tests.build_analysis import make_analysis, make_finding, make_input, make_origin

PATIENT_ID = "P-17"
BIRTH_DATE = "19500102"
#: Of the study that is worked on.
TODAY = "20260301"


def earlier_document(*, study="1.2.3", day="20260228", probability=0.61, **changes) -> Dataset:
    """Return a report of ours about an earlier study; ``changes`` go into the analysis."""
    source = make_input()
    for each in source.headers:
        each.StudyInstanceUID, each.StudyDate = study, day
    values = {"findings": (make_finding(probability),), "explanations": ()}
    (document,) = report.encode(
        make_analysis(source, **(values | changes)), source, make_origin(), ()
    )
    return document


def study_of_today(**tags: str) -> Study:
    """Return the study that is worked on, as the ledger knows it."""
    known = {"StudyDate": TODAY, "PatientBirthDate": BIRTH_DATE, **tags}
    instance = Instance(
        study_instance_uid="1.2.99",
        series_instance_uid="1.2.99.1",
        sop_instance_uid="1.2.99.1.1",
        sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        path="nowhere",
        patient_id=tags.get("PatientID", PATIENT_ID),
        tags=known,
    )
    series = Series(series_instance_uid="1.2.99.1", instances=(instance,))
    return Study(study_instance_uid="1.2.99", series=(series,))


def listed(document: Dataset, **changes: str) -> Dataset:
    """Return a study of a document as an archive lists it."""
    found = Dataset()
    keywords = ("StudyInstanceUID", "StudyDate", "PatientID", "PatientBirthDate")
    for keyword in keywords:
        setattr(found, keyword, changes.get(keyword, document.get(keyword, "")))
    found.IssuerOfPatientID = changes.get("IssuerOfPatientID", "")
    return found


@dataclass(kw_only=True)
class FakeArchive:
    """An archive that lists what it is told to, whatever it is asked for."""

    found: list[Dataset] = field(default_factory=list)
    #: Study Instance UID to the documents of its one series.
    held: dict[str, list[Dataset]] = field(default_factory=dict)
    error: Exception | None = None
    #: What was asked, in order.
    asked: list[str] = field(default_factory=list)

    def studies(self, patient_id: str, until: str) -> tuple[Dataset, ...]:
        self.asked.append(f"{patient_id} until {until}")
        if self.error is not None:
            raise self.error
        return tuple(self.found)

    def report_series(self, study_instance_uid: str) -> tuple[str, ...]:
        self.asked.append(study_instance_uid)
        return ("1.9",) if study_instance_uid in self.held else ()

    def documents(self, study_instance_uid: str, series_uid: str) -> tuple[Dataset, ...]:
        return tuple(self.held[study_instance_uid])


def archive_with(*documents: Dataset) -> FakeArchive:
    """Return an archive that lists and holds these."""
    held: dict[str, list[Dataset]] = {}
    for document in documents:
        held.setdefault(str(document.StudyInstanceUID), []).append(document)
    return FakeArchive(found=[listed(each) for each in documents], held=held)
