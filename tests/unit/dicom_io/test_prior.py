"""An analysis beside an earlier report of ours: only what can be compared is."""

from dataclasses import replace
from datetime import date

import pytest
from pydicom import Dataset

from dicom_io.analysis import PriorComparison, PriorValue, Quantity
from dicom_io.encode import measurements
from dicom_io.prior import Priors, beside_prior, compared, earlier_report
from tests.build_analysis import (
    make_analysis,
    make_card,
    make_finding,
    make_input,
    make_origin,
    make_segment,
)
from tests.build_priors import earlier_document


def now(**changes):
    source = make_input()
    values = {"findings": (make_finding(0.87),), "segments": (), "explanations": ()}
    return make_analysis(source, **(values | changes))


def test_probability_and_volume_stand_beside_those_of_the_report():
    source = make_input()
    voxel_ml = source.volume.voxel_volume_ml
    prior = Priors(reports=(earlier_report(earlier_document()),))
    analysis = now(segments=(make_segment(source),))

    comparison = compared(analysis, prior, voxel_ml)

    volume = int(analysis.segments[0].mask.sum()) * voxel_ml
    assert (comparison.study_instance_uid, comparison.study_date) == ("1.2.3", date(2026, 2, 28))
    assert comparison.note == "read from its AI report by the same model"
    probability, of_volume = comparison.values
    assert probability == PriorValue(
        label="synthetic lesion", quantity=Quantity.PROBABILITY, then=0.61, now=0.87
    )
    assert (of_volume.label, of_volume.quantity) == ("lesion", Quantity.VOLUME)
    assert of_volume.then == pytest.approx(volume, rel=1e-6)
    assert of_volume.now == volume


def test_report_of_other_weights_is_not_compared():
    other = earlier_report(earlier_document(model=make_card(weights_sha256="cd" * 32)))

    comparison = compared(now(), Priors(reports=(other,)), 0.1)

    assert comparison == PriorComparison(note="its AI reports are of other models")


def test_calibrated_probability_is_not_compared_with_one_that_is_not():
    prior = Priors(reports=(earlier_report(earlier_document()),))
    calibrated = replace(make_finding(0.87), calibrated=True)

    comparison = compared(now(findings=(calibrated,)), prior, 0.1)

    assert comparison.study_instance_uid == "1.2.3"
    assert comparison.values == ()


def test_newest_of_several_reports_counts():
    older = earlier_report(earlier_document(day="20250101", study="1.2.1", probability=0.1))
    newest = earlier_report(earlier_document(day="20260101", study="1.2.2", probability=0.2))

    comparison = compared(now(), Priors(reports=(newest, older)), None)

    assert [value.then for value in comparison.values] == [0.2]


def test_why_there_is_nothing_to_compare_is_kept():
    comparison = compared(now(), Priors(absent="the archive did not answer in time"), None)

    assert comparison == PriorComparison(note="the archive did not answer in time")


def test_analyses_stay_as_they_are_where_nobody_asked():
    analyses = (now(),)

    assert beside_prior(analyses, (make_input(),), None) == analyses


def test_document_of_measurements_is_no_report_to_compare():
    source = make_input()
    made = measurements.encode(make_analysis(source), source, make_origin(), ())

    assert [earlier_report(document) for document in made] == [None] * len(made)


def test_document_of_somebody_else_is_no_report_to_compare():
    document = Dataset()
    document.StudyDate = "20260101"

    assert earlier_report(document) is None
