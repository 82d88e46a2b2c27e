"""A patient's earlier reports of ours, asked for before a task is worked on.

A report of another patient must never stand beside a study: identifiers are compared letter by
letter, in what the archive lists and again in every document that it sends.
"""

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from pydicom import Dataset

from dicom_io.header import PARSE_ERRORS
from dicom_io.prior import EarlierReport, Priors, earlier_report, study_date
from dicom_io.study import Study
from node.archive import Archive, archive_of
from node.config import Config, Route
from node.peer import NoContextError, Timeouts

logger = logging.getLogger(__name__)

#: Characters with a meaning of their own in a query (PS3.4 C.2.2.2).
_WILD = frozenset("*?\\")
#: Newest studies that are looked at, and series in each.
_MOST_STUDIES = 5
_MOST_SERIES = 10


def priors_of(config: Config, route: Route, study: Study) -> Priors | None:
    """Return what is known of a patient's earlier studies; None if the route does not ask."""
    if route.priors is None:
        return None
    wait = route.priors.seconds
    archive = archive_of(
        config.peers[route.priors.archive],
        calling_ae=config.node.ae_title,
        timeouts=Timeouts(
            connect=min(wait, 10.0), association=min(wait, 10.0), response=wait, network=wait
        ),
    )
    return find_priors(archive, study, seconds=wait)


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Who a study is of, as far as it can be compared; empty where it does not say."""

    patient_id: str
    issuer: str = ""
    birth_date: str = ""


def find_priors(
    archive: Archive, study: Study, *, seconds: float, clock: Callable[[], float] = time.monotonic
) -> Priors:
    """Return the reports of the newest earlier study that has any; why there are none, if so.

    Never raises: a task goes on without a prior.

    Parameters
    ----------
    seconds
        After so long nothing more is asked.
    """
    try:
        return _find(archive, study, clock() + seconds, clock)
    except (ConnectionError, NoContextError) as error:
        reason = str(error)
    except Exception as error:  # an entry point: what another system sends may be anything
        logger.exception("priors cannot be read", extra={"event": "priors_failed"})
        reason = type(error).__name__
    extra = {"event": "no_prior", "study": study.study_instance_uid, "reason": reason}
    logger.warning("no prior is compared", extra=extra)
    return Priors(absent="the archive could not be asked for earlier studies")


def _find(archive: Archive, study: Study, until: float, clock: Callable[[], float]) -> Priors:
    person, day = person_of(study), _tag(study, "StudyDate")
    today = study_date(day)
    if not person.patient_id or _WILD & set(person.patient_id):
        return Priors(absent="earlier studies cannot be asked for under this patient ID")
    if today is None:
        return Priors(absent="this study has no date, so none is known to be earlier")
    listed = archive.studies(person.patient_id, day)
    earlier = sorted(
        (
            (found, str(one.StudyInstanceUID))
            for one in listed
            if same_person(person, one)
            and (found := study_date(str(one.get("StudyDate", "")))) is not None
            and found < today
            and one.get("StudyInstanceUID") not in ("", None, study.study_instance_uid)
        ),
        reverse=True,
    )
    if not earlier:
        return Priors(absent="the archive has no earlier study of this patient")
    reports: list[EarlierReport] = []
    for _, uid in earlier[:_MOST_STUDIES]:
        if clock() >= until:
            break
        reports += _reports(archive, uid, person, lambda: clock() < until)
    late = clock() >= until
    absent = "the archive did not answer in time" if late else "no earlier study has an AI report"
    return Priors(reports=tuple(reports), absent="" if reports else absent)


def person_of(study: Study) -> Person:
    """Return who a study is of."""
    return Person(
        patient_id=study.instances[0].patient_id.strip(),
        issuer=_tag(study, "IssuerOfPatientID"),
        birth_date=_tag(study, "PatientBirthDate"),
    )


def same_person(person: Person, other: Dataset) -> bool:
    """Return whether a data set is of this patient: same ID, and nothing else that differs."""
    if str(other.get("PatientID") or "").strip() != person.patient_id:
        return False
    known = (
        (person.issuer, other.get("IssuerOfPatientID")),
        (person.birth_date, other.get("PatientBirthDate")),
    )
    return all(not ours or not theirs or ours == str(theirs).strip() for ours, theirs in known)


def _reports(
    archive: Archive, study_uid: str, person: Person, in_time: Callable[[], bool]
) -> Iterator[EarlierReport]:
    for series in archive.report_series(study_uid)[:_MOST_SERIES]:
        if not in_time():
            return
        yield from _comparable(archive.documents(study_uid, series), study_uid, person)


def _comparable(
    documents: Iterable[Dataset], study_uid: str, person: Person
) -> Iterator[EarlierReport]:
    for document in documents:
        if document.get("StudyInstanceUID") != study_uid or not same_person(person, document):
            extra = {"event": "prior_of_another", "study": study_uid}
            logger.error("the archive sent a document of another patient or study", extra=extra)
            continue
        try:
            report = earlier_report(document)
        except (*PARSE_ERRORS, AttributeError, IndexError):
            # A structured report of somebody else, written in another way.
            continue
        if report is not None:
            yield report


def _tag(study: Study, keyword: str) -> str:
    values = (instance.tags.get(keyword, "").strip() for instance in study.instances)
    return next((value for value in values if value), "")
