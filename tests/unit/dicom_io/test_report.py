"""The report says what was found, how large, and how well it was explained."""

import subprocess
from dataclasses import replace

import pydicom
import pytest

from dicom_io.analysis import MeasureValue, Verdict
from dicom_io.encode import relevance_bands, report, secondary_capture, segmentation
from dicom_io.encode.words import measure_text
from dicom_io.reported import report_in
from tests.build_analysis import (
    OBLIQUE,
    make_analysis,
    make_explanation,
    make_failure,
    make_finding,
    make_input,
    make_origin,
    make_projection,
    make_segment,
)
from tests.peers import require


def produced_before(analysis, source, origin):
    produced = ()
    for encoder in (segmentation, relevance_bands, secondary_capture):
        produced += encoder.encode(analysis, source, origin, produced)
    return produced


def written(source, *, origin=None, **changes):
    """The report and the objects that it refers to."""
    origin = origin or make_origin()
    analysis = make_analysis(source, **changes)
    produced = produced_before(analysis, source, origin)
    (dataset,) = report.encode(analysis, source, origin, produced)
    return dataset, produced


def items(dataset):
    for item in dataset.get("ContentSequence", ()):
        yield item
        yield from items(item)


def values(dataset, meaning):
    """What stands under a concept name, anywhere in the document."""
    found = []
    for item in items(dataset):
        if item.get("ConceptNameCodeSequence") and name_of(item) == meaning:
            if item.ValueType == "NUM":
                measured = item.MeasuredValueSequence[0]
                found.append(float(measured.get("FloatingPointValue", measured.NumericValue)))
            elif item.ValueType == "CODE":
                found.append(item.ConceptCodeSequence[0].CodeMeaning)
            elif item.ValueType == "IMAGE":
                found.append(item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID)
            else:
                found.append(item.get("TextValue", ""))
    return found


def name_of(item):
    return item.ConceptNameCodeSequence[0].CodeMeaning


def test_finding_has_probability_operating_point_and_presence():
    dataset, _ = written(make_input(), findings=(make_finding(0.87), make_finding(0.2, "cyst")))

    assert values(dataset, "Probability") == [87.0, 20.0]
    assert values(dataset, "Operating point of the model") == [50.0, 50.0]
    assert values(dataset, "Presence of property") == ["Present", "Absent"]


@pytest.mark.parametrize("orientation", [None, OBLIQUE])
def test_volume_is_the_number_of_voxels_times_their_volume(orientation):
    source = make_input() if orientation is None else make_input(orientation, "MR")
    segment = make_segment(source)

    dataset, _ = written(source, segments=(segment,))

    expected = segment.mask.sum() * 3.0 * 0.8 * 0.7 / 1000
    assert values(dataset, "Volume") == [pytest.approx(expected, rel=1e-9)]
    assert values(dataset, "Number of voxels") == [segment.mask.sum()]


def test_segment_is_tracked_under_the_identifier_of_the_segmentation_object():
    source = make_input()

    dataset, produced = written(source)

    item = produced[0].SegmentSequence[0]
    assert item.TrackingUID in [i.UID for i in items(dataset) if i.ValueType == "UIDREF"]
    assert item.TrackingID in values(dataset, "Tracking Identifier")


def test_explanation_names_method_parameters_measures_and_verdict():
    source = make_input()

    dataset, _ = written(source)

    assert values(dataset, "Explanation method") == ["Gradient-weighted class activation"]
    assert values(dataset, "Evidence for") == ["synthetic lesion"]
    assert values(dataset, "Comprehensiveness above displaced masks") == [0.31]
    assert values(dataset, "Integrity of the heatmap") == [1.0]
    assert values(dataset, "Verdict on the explanation") == ["All checks passed"]
    assert values(dataset, "Algorithm Parameters") == [
        "method=layer_cam; channels=sum; layer=features.denseblock3"
    ]
    assert "LayerCAM" in values(dataset, "Algorithm Name")


def test_why_this_and_not_that_is_said_in_words_and_in_codes():
    source = make_input()
    weighed = make_explanation(source, against="effusion")
    failed = make_failure(against="effusion", method="lrp", parameters={"rule": "cp"})
    findings = (make_finding(), make_finding(0.1, "effusion"))

    dataset, produced = written(
        source, findings=findings, explanations=(weighed,), failures=(failed,)
    )

    assert values(dataset, "Evidence for") == ["synthetic lesion rather than effusion"]
    (rather,) = (i for i in items(dataset) if name_of(i) == "Rather than")
    assert rather.ConceptCodeSequence[0].CodeValue == "41699000"
    assert values(dataset, "Explanation that could not be made") == [
        "synthetic lesion rather than effusion by CP-LRP: NOT EXPLAINED, "
        "the network has no feature map"
    ]
    shown = {d.SeriesDescription for d in produced if "lesion" in d.SeriesDescription}
    assert "AI evidence for synthetic lesion rather than effusion, LayerCAM" in shown


@pytest.mark.parametrize(
    ("verdict", "meaning"),
    [
        (Verdict.LABELLED, "Shown although a check failed"),
        (Verdict.WITHHELD, "Withheld because a check failed"),
        (None, "Not measured"),
    ],
)
def test_verdict_and_reasons_are_said(verdict, meaning):
    source = make_input()
    explanation = make_explanation(source, verdict)

    dataset, _ = written(source, explanations=(explanation,))

    assert values(dataset, "Verdict on the explanation") == [meaning]
    assert values(dataset, "Reason of the verdict") == list(explanation.reasons)


def test_the_grade_and_every_value_with_its_limit_and_verdict_are_said():
    source = make_input()
    measures = (
        MeasureValue(name="comprehensiveness", value=0.9, limit=0.2, passed=True),
        MeasureValue(name="stability", value=0.95, limit=0.7, passed=True),
        MeasureValue(name="plausibility", value=0.99, limit=0.8, passed=True),
        MeasureValue(name="edges", value=0.1, limit=0.8, passed=True),
        MeasureValue(name="intensity", value=0.85, limit=0.8, passed=False),
        MeasureValue(name="agreement", value=0.4),
    )
    explanation = make_explanation(source, Verdict.LABELLED, measures=measures)

    dataset, _ = written(source, explanations=(explanation,))

    assert values(dataset, "Grade of the explanation") == ["C: a check failed, read with care"]
    assert values(dataset, "Limit of a measure") == [
        "comprehensiveness 0.9 (limit 0.2): passed",
        "stability 0.95 (limit 0.7): passed",
        "plausibility 0.99 (limit 0.8): passed",
        "edges 0.1 (limit 0.8): passed",
        "intensity 0.85 (limit 0.8): FAILED",
    ]
    for name, value in {
        "Rank correlation under mild noise": 0.95,
        "Relevance inside the body or organ": 0.99,
        "Correlation with edges": 0.1,
        "Correlation with intensity": 0.85,
        "Agreement of two method families": 0.4,
    }.items():
        assert values(dataset, name) == [value]


def test_withheld_explanation_keeps_its_numbers_but_has_no_picture():
    source = make_input()
    explanation = make_explanation(source, Verdict.WITHHELD)

    dataset, _ = written(source, explanations=(explanation,))

    assert "WITHHELD" in values(dataset, "Visual explanation")[0]
    assert values(dataset, "Comprehensiveness above displaced masks") == [-0.01]


def test_measure_that_is_no_number_is_said_in_words():
    source = make_input()
    broken = MeasureValue(name="integrity", value=float("nan"), limit=1.0, passed=False)

    dataset, _ = written(source, explanations=(make_explanation(source, measures=(broken,)),))

    assert values(dataset, "Integrity of the heatmap") == []
    assert values(dataset, "Limit of a measure") == [
        "integrity could not be measured (limit 1): FAILED"
    ]


def test_nothing_found_is_said_explicitly():
    dataset, _ = written(make_input(), findings=(), segments=(), explanations=())

    assert values(dataset, "Result of the analysis") == [
        "All algorithms succeeded; without findings"
    ]
    assert "found nothing" in values(dataset, "Conclusion")[0]
    assert "nothing found" in dataset.SeriesDescription


def test_absent_finding_alone_counts_as_nothing_found():
    dataset, _ = written(make_input(), findings=(make_finding(0.1),), segments=(), explanations=())

    assert "found nothing" in values(dataset, "Conclusion")[0]
    assert "not present, probability 10.0 %" in values(dataset, "Conclusion")[1]


def test_explanation_that_could_not_be_made_is_told_with_its_reason():
    dataset, _ = written(make_input(), failures=(make_failure(),))

    assert values(dataset, "Result of the analysis") == [
        "Not all algorithms succeeded; with findings"
    ]
    assert values(dataset, "Explanation that could not be made") == [
        "synthetic lesion by Grad-CAM: NOT EXPLAINED, the network has no feature map"
    ]
    (said,) = (text for text in values(dataset, "Visual explanation") if "LayerCAM" in text)
    assert said.endswith("passed its checks; 1 of 2 explanations could not be made")


def test_findings_without_any_explanation_never_look_explained():
    failures = (make_failure(), make_failure(method="layer_cam"))
    dataset, produced = written(make_input(), explanations=(), failures=failures)

    assert values(dataset, "Visual explanation") == [
        "NOTHING IS EXPLAINED: 2 of 2 explanations could not be made"
    ]
    assert values(dataset, "Verdict on the explanation") == []
    assert [d.SeriesDescription for d in produced if "evidence" in d.SeriesDescription] == []
    assert "PRESENT, probability 87.0 %" in values(dataset, "Conclusion")[0]


def test_failed_explanation_is_read_back_from_the_report(tmp_path):
    dataset, _ = written(make_input(), failures=(make_failure(),))
    dataset.save_as(tmp_path / "report.dcm", enforce_file_format=True)

    said = report_in(pydicom.dcmread(tmp_path / "report.dcm"))

    assert said.failures == (
        "synthetic lesion by Grad-CAM: NOT EXPLAINED, the network has no feature map",
    )
    assert [each.method for each in said.explanations] == ["LayerCAM"]


@pytest.mark.parametrize(
    ("mode", "qualification", "restricted"),
    [("research", "RESEARCH", True), ("clinical", "PRODUCT", False)],
)
def test_mode_decides_qualification_and_restriction(mode, qualification, restricted):
    dataset, _ = written(make_input(), origin=make_origin(mode))

    assert dataset.ContentQualification == qualification
    assert bool(values(dataset, "Restriction of use")) is restricted


def test_notice_intended_use_and_contact_are_written():
    dataset, _ = written(make_input())

    assert values(dataset, "Notice of the model's maker") == [
        "Synthetic-lesion phantom: not trained on patients."
    ]
    assert values(dataset, "Intended use of the model") == ["Checks of the explanation chain"]
    assert values(dataset, "Whom to ask") == ["ai@hospital"]


def test_evidence_holds_key_images_and_results_and_nothing_else():
    source = make_input(shape=(30, 40, 48))
    dataset, produced = written(source)

    (study,) = dataset.CurrentRequestedProcedureEvidenceSequence
    by_series = {
        series.SeriesInstanceUID: len(series.ReferencedSOPSequence)
        for series in study.ReferencedSeriesSequence
    }

    assert study.StudyInstanceUID == "1.2.3"
    assert by_series["1.2.3.5"] <= 2
    assert set(by_series) == {"1.2.3.5"} | {d.SeriesInstanceUID for d in produced}
    assert max(by_series.values()) <= 2


def test_report_alone_still_carries_the_volumes():
    source = make_input()
    analysis = make_analysis(source)

    (dataset,) = report.encode(analysis, source, make_origin(), ())

    assert len(values(dataset, "Volume")) == 1


def test_projection_counts_pixels():
    dataset, _ = written(make_projection())

    assert values(dataset, "Volume") == []
    assert len(values(dataset, "Number of voxels")) == 1
    assert any("pixels" in text for text in values(dataset, "Conclusion"))


def test_probability_is_never_rounded_across_the_operating_point():
    finding = replace(make_finding(0.49996), threshold=0.5)

    dataset, _ = written(make_input(), findings=(finding,))

    assert values(dataset, "Presence of property") == ["Absent"]
    assert "49.996 % (cut-off 50.000 %)" in values(dataset, "Conclusion")[1]


@pytest.mark.peers
def test_dsrdump_prints_the_report(tmp_path):
    dsrdump = require("/usr/bin/dsrdump", "install Debian's dcmtk")
    dataset, _ = written(make_input())
    dataset.save_as(tmp_path / "report.dcm", enforce_file_format=True)

    ran = subprocess.run(
        [dsrdump, "+Pl", tmp_path / "report.dcm"],
        capture_output=True,
        encoding="latin-1",
        check=True,
    )

    assert "Visual explanation" in ran.stdout
    assert "synthetic lesion: PRESENT, probability 87" in ran.stdout
    assert "Müller^Änne" in ran.stdout
    assert ran.stderr == ""


@pytest.mark.parametrize(
    ("value", "limit", "said"),
    [
        (0.0010004, 0.001, "sufficiency 0.0010004 (limit 0.001): FAILED"),
        (0.3, 0.001, "sufficiency 0.3 (limit 0.001): FAILED"),
        (float("nan"), 0.001, "sufficiency could not be measured (limit 0.001): FAILED"),
        (0.0, 0.0, "sufficiency 0 (limit 0): FAILED"),
    ],
)
def test_measure_is_never_rounded_to_its_limit(value, limit, said):
    measure = MeasureValue(name="sufficiency", value=value, limit=limit, passed=False)

    assert measure_text(measure) == said


@pytest.mark.parametrize(
    ("value", "limit", "said"),
    [
        (0.0242, 0.05, "residual 2.42 % (limit 5 %)"),
        (0.0010004, 0.001, "residual 0.10004 % (limit 0.1 %)"),
        (3e-7, 0.001, "residual < 0.001 % (limit 0.1 %)"),
        (3e-7, 1e-8, "residual 3e-05 % (limit 1e-06 %)"),
        (0.0, None, "residual < 0.001 %"),
        (float("nan"), 0.001, "residual could not be measured (limit 0.1 %)"),
    ],
)
def test_a_residual_is_told_as_the_share_that_is_unexplained(value, limit, said):
    assert measure_text(MeasureValue(name="residual", value=value, limit=limit)) == said


def test_volume_is_written_without_the_dust_of_binary_fractions():
    source = make_input()
    dataset, _ = written(source, segments=(make_segment(source),))

    stated = [
        str(item.MeasuredValueSequence[0].NumericValue)
        for item in items(dataset)
        if item.get("ValueType") == "NUM" and name_of(item) == "Volume"
    ]

    assert stated
    assert all(len(volume.partition(".")[2]) <= 6 for volume in stated)
