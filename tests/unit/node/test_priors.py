"""Earlier reports of a patient: found, never another's, and never in the way of a task."""

import json
from datetime import date

import pytest

from dicom_io.prior import Priors
from node.config import Config, NodeSettings, Peer, PriorSettings, Route, plan_of, site_of
from node.order import Order, order_from_message, order_to_message
from node.peer import NoContextError, UnreachableError
from node.priors import find_priors, priors_of
from tests.build_analysis import make_origin
from tests.build_priors import (
    FakeArchive,
    archive_with,
    earlier_document,
    listed,
    study_of_today,
)


def found_dates(archive, **tags) -> list[date]:
    priors = find_priors(archive, study_of_today(**tags), seconds=30.0)
    return [report.study_date for report in priors.reports]


def test_earlier_report_is_found():
    archive = archive_with(earlier_document())

    (report,) = find_priors(archive, study_of_today(), seconds=30.0).reports

    assert archive.asked == ["P-17 until 20260301", "1.2.3"]
    assert report.study_date == date(2026, 2, 28)
    assert report.probabilities == {"synthetic lesion": (pytest.approx(0.61), False)}


@pytest.mark.parametrize(
    "lie",
    [
        {"PatientID": "P-171"},
        {"PatientID": "p-17"},
        {"PatientID": ""},
        {"PatientBirthDate": "19500103"},
        {"IssuerOfPatientID": "OTHER"},
        {"StudyDate": "20260301"},
        {"StudyDate": "20270101"},
        {"StudyDate": ""},
        {"StudyInstanceUID": "1.2.99"},
        {"StudyInstanceUID": ""},
    ],
)
def test_study_that_is_not_surely_earlier_and_the_patients_is_not_read(lie):
    document = earlier_document()
    archive = FakeArchive(found=[listed(document, **lie)], held={"1.2.3": [document]})

    priors = find_priors(archive, study_of_today(IssuerOfPatientID="HERE"), seconds=30.0)

    assert priors == Priors(absent="the archive has no earlier study of this patient")
    assert len(archive.asked) == 1


@pytest.mark.parametrize(
    ("keyword", "value"),
    [("PatientID", "P-18"), ("PatientBirthDate", "19991231"), ("StudyInstanceUID", "1.2.4")],
)
def test_document_of_another_is_not_compared_whatever_it_was_listed_as(keyword, value):
    document = earlier_document()
    archive = archive_with(document)
    setattr(document, keyword, value)

    priors = find_priors(archive, study_of_today(), seconds=30.0)

    assert priors == Priors(absent="no earlier study has an AI report")


@pytest.mark.parametrize("patient_id", ["", "P*", "P-1?", "P\\Q"])
def test_patient_that_cannot_be_asked_for_has_no_prior(patient_id):
    archive = archive_with(earlier_document())

    priors = find_priors(archive, study_of_today(PatientID=patient_id), seconds=30.0)

    assert priors.reports == ()
    assert "patient ID" in priors.absent
    assert archive.asked == []


def test_study_without_a_date_has_no_prior():
    archive = archive_with(earlier_document())

    assert found_dates(archive, StudyDate="") == []
    assert archive.asked == []


def test_unknown_birth_date_does_not_stand_in_the_way():
    archive = archive_with(earlier_document())

    assert found_dates(archive, PatientBirthDate="") == [date(2026, 2, 28)]


@pytest.mark.parametrize(
    "error", [UnreachableError("gone"), NoContextError("no query"), ValueError("nonsense")]
)
def test_archive_that_fails_leaves_the_task_without_a_prior(error):
    priors = find_priors(FakeArchive(error=error), study_of_today(), seconds=30.0)

    assert priors == Priors(absent="the archive could not be asked for earlier studies")


def test_archive_that_is_dead_leaves_the_task_without_a_prior(tmp_path):
    node = NodeSettings(data=tmp_path, database="")
    gone = Peer(name="pacs", ae_title="GONE", host="127.0.0.1", port=1)
    config = Config(node=node, site=site_of(node), peers={"pacs": gone})
    route = Route(name="r", steps=(), select=(), priors=PriorSettings(archive="pacs", seconds=5.0))

    priors = priors_of(config, route, study_of_today())

    assert priors == Priors(absent="the archive could not be asked for earlier studies")


def test_route_that_does_not_ask_has_no_priors(tmp_path):
    node = NodeSettings(data=tmp_path, database="")
    config = Config(node=node, site=site_of(node))

    assert priors_of(config, Route(name="r", steps=(), select=()), study_of_today()) is None


def test_what_is_found_travels_to_the_inference_child(tmp_path):
    priors = find_priors(archive_with(earlier_document()), study_of_today(), seconds=30.0)
    node = NodeSettings(data=tmp_path, database="")
    config = Config(node=node, site=site_of(node))
    order = Order(
        study=study_of_today(),
        origin=make_origin(),
        plan=plan_of(config, Route(name="r", steps=(), select=())),
        folder=tmp_path,
        priors=priors,
    )

    message = json.loads(json.dumps(order_to_message(order)))

    assert order_from_message(message).priors == priors


def test_archive_that_is_slow_is_not_asked_on():
    archive = archive_with(earlier_document())
    ticks = iter(range(0, 1000, 20))

    priors = find_priors(archive, study_of_today(), seconds=10.0, clock=lambda: next(ticks))

    assert priors == Priors(absent="the archive did not answer in time")


def test_report_of_somebody_else_does_not_hide_ours():
    foreign = earlier_document(study="1.2.4", day="20260227")
    for item in foreign.ContentSequence:
        del item.ConceptNameCodeSequence
    archive = archive_with(foreign, earlier_document())

    assert found_dates(archive) == [date(2026, 2, 28)]
