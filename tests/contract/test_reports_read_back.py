"""Independent readers get out of both documents all that went into them."""

import subprocess
from dataclasses import replace
from decimal import Decimal

import highdicom as hd
import pydicom
import pytest

from dicom_io.analysis import Certainty, Familiarity, MeasureValue
from dicom_io.codes import measure_code
from dicom_io.encode import (
    measurements,
    relevance_bands,
    report,
    report_basic,
    secondary_capture,
    segmentation,
)
from dicom_io.reported import regions_in, report_in
from tests.build_analysis import (
    make_analysis,
    make_explanation,
    make_failure,
    make_finding,
    make_input,
    make_origin,
    make_segment,
)
from tests.build_kinds import SOURCE_KINDS
from tests.peers import require

#: No round numbers: they would survive any rounding.
PROBABILITIES = (0.8712345, 0.07, 0.1 + 0.2)
MEASURES = (
    MeasureValue(name="comprehensiveness", value=0.3141592653589793, limit=0.2, passed=True),
    MeasureValue(name="stability", value=-1.5e-9, limit=0.7, passed=False),
    MeasureValue(name="residual", value=1e-300),
)


def make_rich(source):
    """An analysis of everything that a report can say."""
    labels = ("synthetic lesion", "cyst", "effusion")
    findings = tuple(
        replace(
            make_finding(probability, label),
            calibrated=True,
            certainty=Certainty(level=0.9, present=True, absent=False),
        )
        for probability, label in zip(PROBABILITIES, labels, strict=True)
    )
    return make_analysis(
        source,
        findings=findings,
        segments=(make_segment(source, "lesion"), make_segment(source, "liver")),
        explanations=(make_explanation(source, measures=MEASURES),),
        failures=(make_failure(),),
        familiarity=Familiarity(distance=3.2, distance_limit=6.5, energy=-2.0, energy_limit=-0.7),
    )


def documents_of(source, folder):
    """The analysis, and the paths of its objects by the name of their result."""
    analysis, origin = make_rich(source), make_origin()
    produced, paths = (), {}
    for encoder in (segmentation, relevance_bands, secondary_capture, measurements, report,
                    report_basic):  # fmt: skip
        made = encoder.encode(analysis, source, origin, produced)
        produced += made
        for dataset in made:
            name = encoder.__name__.rpartition(".")[2]
            paths[name] = folder / f"{name}.dcm"
            dataset.save_as(paths[name], enforce_file_format=True)
    return analysis, produced, paths


def nodes(item):
    """Every content item below one, by highdicom's own sequences."""
    for child in item.get("ContentSequence", ()):
        yield child
        yield from nodes(child)


def numbers(path):
    """Code value to the numbers under it, as highdicom's content items read them."""
    found = {}
    (root,) = hd.sr.srread(path).content
    for item in nodes(root):
        if item.ValueType == "NUM":
            found.setdefault(item.name.value, []).append(item.value)
    return found


def test_highdicom_reads_every_probability_and_measure(tmp_path):
    analysis, _, paths = documents_of(make_input(), tmp_path)

    read = numbers(paths["report"])

    assert read["122157"] == pytest.approx([100 * p for p in PROBABILITIES], rel=1e-14)
    for measure in MEASURES:
        assert read[measure_code(measure.name).value] == [pytest.approx(measure.value, rel=1e-15)]
    assert read["118565006"] == pytest.approx(
        [round(s.mask.sum() * 3.0 * 0.8 * 0.7 / 1000, 6) for s in analysis.segments]
    )
    assert read["DISTANCE"] == [3.2]


@pytest.mark.parametrize("name", ["report", "report_basic"])
def test_our_own_reader_gets_back_what_went_in(name, tmp_path):
    analysis, _, paths = documents_of(make_input(), tmp_path)

    said = report_in(pydicom.dcmread(paths[name]))

    assert [(f.label, f.present) for f in said.findings] == [
        (f.label, f.present) for f in analysis.findings
    ]
    assert [f.probability for f in said.findings] == pytest.approx(PROBABILITIES, rel=1e-14)
    assert [f.threshold for f in said.findings] == [0.5, 0.5, 0.5]
    assert [(s.label, s.voxels) for s in said.segments] == [
        (s.label, int(s.mask.sum())) for s in analysis.segments
    ]
    assert said.outcome == "111244"
    assert said.failures == (
        "synthetic lesion by Grad-CAM: NOT EXPLAINED, the network has no feature map",
    )
    assert (said.model_name, said.model_version, said.weights_sha256) == (
        "phantom",
        "1.0",
        "ab" * 32,
    )
    assert [e.method for e in said.explanations] == ["LayerCAM"]


def test_every_object_that_was_made_is_referred_to_by_one_of_the_documents(tmp_path):
    source = make_input()
    _, produced, paths = documents_of(source, tmp_path)
    documents = [pydicom.dcmread(paths[name]) for name in ("measurements", "report")]

    listed = {
        str(reference.ReferencedSOPInstanceUID)
        for document in documents
        for study in document.CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
        for reference in series.ReferencedSOPSequence
    }

    whole = {str(d.SOPInstanceUID) for d in produced if d.Modality == "SEG"}
    captures = {str(d.SOPInstanceUID) for d in produced if d.Modality == "OT"}
    images = {frame.sop_instance_uid for frame in source.volume.frames}
    assert whole | {str(documents[0].SOPInstanceUID)} <= listed
    assert listed & captures
    assert listed & images
    assert regions_in(documents[0])[0].sop_instance_uid in listed
    assert listed <= whole | captures | images | {str(documents[0].SOPInstanceUID)}


def test_a_segment_is_found_by_the_identifier_that_it_has_in_the_segmentation(tmp_path):
    _, produced, paths = documents_of(make_input(), tmp_path)

    said = report_in(pydicom.dcmread(paths["report"]))

    assert [s.tracking_uid for s in said.segments] == [
        item.TrackingUID for item in produced[0].SegmentSequence
    ]


@pytest.mark.peers
@pytest.mark.parametrize("tool", ["/usr/bin/dsrdump", "/usr/bin/dsr2html"])
def test_dcmtk_renders_every_number_and_sentence(tool, tmp_path):
    require(tool, "apt-get install dcmtk")
    _, _, paths = documents_of(make_input(), tmp_path)
    told = {}
    for name in ("measurements", "report", "report_basic"):
        options = ["+Pl"] if tool.endswith("dsrdump") else []
        ran = subprocess.run(
            [tool, *options, paths[name]], capture_output=True, encoding="latin-1", check=True
        )
        assert ran.stderr == ""
        told[name] = " ".join(ran.stdout.split())

    for name in ("report", "report_basic"):
        for words in ("87.12345", "0.3141592653589", "PRESENT, calibrated probability 87.1 %"):
            assert words in told[name]
    assert "AI synthetic lesion probability" in told["measurements"]
    assert "87.12345" in told["measurements"]


@pytest.mark.peers
@pytest.mark.parametrize("kind", SOURCE_KINDS)
def test_validator_finds_no_error_in_any_document_of_any_kind_of_source(kind, tmp_path):
    validator = require("/usr/bin/dciodvfy", "install Debian's dicom3tools")
    dsrdump = require("/usr/bin/dsrdump", "apt-get install dcmtk")
    _, _, paths = documents_of(SOURCE_KINDS[kind](), tmp_path)

    for name in ("measurements", "report", "report_basic"):
        checked = subprocess.run(
            [validator, paths[name]], capture_output=True, text=True, check=False
        )
        read = subprocess.run([dsrdump, paths[name]], capture_output=True, check=True)

        said = (checked.stdout + checked.stderr).splitlines()
        assert said
        assert [line for line in said if line.startswith("Error")] == []
        assert read.stderr == b""


def test_numbers_are_written_exactly_wherever_sixteen_characters_can():
    source = make_input()
    (dataset,) = report.encode(make_rich(source), source, make_origin(), ())

    written = [item.MeasuredValueSequence[0] for item in nodes(dataset) if item.ValueType == "NUM"]

    assert written
    for measured in written:
        assert len(str(measured.NumericValue)) <= 16
        exact = measured.get("FloatingPointValue")
        if exact is not None:
            assert float(Decimal(str(measured.NumericValue))) == pytest.approx(exact, rel=1e-9)
