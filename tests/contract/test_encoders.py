"""What every encoder must do, whatever it makes: a new one is tested by being an entry point."""

import io
import subprocess
from importlib.metadata import entry_points

import numpy as np
import pydicom
import pytest
from pydicom.filewriter import dcmwrite

from dicom_io.analysis import MeasureValue, Verdict
from dicom_io.check import check_object
from dicom_io.check_source import check_against_source
from dicom_io.codes import method_name
from dicom_io.encode.objects import encode_analyses
from dicom_io.encode.overlay_legend import overlay_legend
from dicom_io.paint import displayed
from node.config import GateSettings
from node.gate import apply_gate
from tests.build_analysis import (
    OBLIQUE,
    SAGITTAL,
    make_analysis,
    make_card,
    make_enhanced_input,
    make_explanation,
    make_failure,
    make_finding,
    make_input,
    make_origin,
    make_photograph,
    make_projection,
)
from tests.peers import require

METHODS = sorted({entry.name for entry in entry_points(group="pellucid.explainers")})
#: Concepts of CID 217; every other method of ours has one of our own scheme.
VISUAL_EXPLANATIONS = {
    "130402": {"cam", "eigen_cam"},
    "130403": {"grad_cam", "grad_cam_pp", "hires_cam", "layer_cam", "xgrad_cam"},
    "130404": {"saliency", "smoothgrad"},
}
ENCODERS = {
    entry.name: entry.load
    for entry in sorted(entry_points(group="pellucid.encoders"), key=lambda entry: entry.name)
}


def make_bare_input(**said):
    """A CT that misses what it must say, and says that it was deidentified, not how."""
    source = make_input()
    for header in source.headers:
        del header.BodyPartExamined
        header.PatientIdentityRemoved = "YES"
        for keyword, value in said.items():
            setattr(header, keyword, value)
    return source


SOURCES = {
    "axial CT": make_input,
    "oblique MR": lambda: make_input(OBLIQUE, "MR"),
    "sagittal MR": lambda: make_input(SAGITTAL, "MR"),
    "multi-frame MR": make_enhanced_input,
    "CT that says little": make_bare_input,
    "knee on the left": lambda: make_bare_input(BodyPartExamined="KNEE", Laterality="L"),
    "radiograph": make_projection,
    "photograph": make_photograph,
}


def as_bytes(dataset):
    stream = io.BytesIO()
    dcmwrite(stream, dataset, enforce_file_format=True)
    return stream.getvalue()


def all_objects(source, **changes):
    encoders = {name: load() for name, load in ENCODERS.items()}
    analysis = make_analysis(source, **changes)
    return encode_analyses([analysis], [source], make_origin(), encoders)


def errors_found(validator, objects, folder):
    """Yield each object's description with what the validator calls an error."""
    for number, dataset in enumerate(objects):
        path = folder / f"{number}.dcm"
        path.write_bytes(as_bytes(dataset))
        ran = subprocess.run([validator, path], capture_output=True, text=True, check=False)
        lines = (ran.stdout + ran.stderr).splitlines()
        yield dataset.SeriesDescription, [line for line in lines if line.startswith("Error")]


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize("kind", SOURCES)
def test_objects_pass_our_own_check(name, kind):
    source = SOURCES[kind]()

    objects = ENCODERS[name]()(make_analysis(source), source, make_origin(), ())

    for dataset in objects:
        assert check_object(dataset) == ()
        assert check_against_source(dataset, source) == ()


@pytest.mark.peers
@pytest.mark.parametrize("kind", SOURCES)
def test_an_independent_validator_finds_no_error(kind, tmp_path):
    validator = require("/usr/bin/dciodvfy", "install Debian's dicom3tools")
    source = SOURCES[kind]()

    errors = list(errors_found(validator, all_objects(source), tmp_path))

    assert errors
    assert [found for found in errors if found[1]] == []


@pytest.mark.peers
def test_a_method_of_our_own_scheme_and_a_contrast_are_no_errors_either(tmp_path):
    validator = require("/usr/bin/dciodvfy", "install Debian's dicom3tools")
    source = make_input()
    explanation = make_explanation(source, method="lrp", against="effusion", residual=0.1)
    failure = make_failure(method="rise", against="effusion")

    objects = all_objects(source, explanations=(explanation,), failures=(failure,))

    assert [found for found in errors_found(validator, objects, tmp_path) if found[1]] == []


@pytest.mark.parametrize("kind", SOURCES)
def test_a_retry_makes_the_same_bytes(kind):
    first = [as_bytes(dataset) for dataset in all_objects(SOURCES[kind]())]
    second = [as_bytes(dataset) for dataset in all_objects(SOURCES[kind]())]

    assert first == second


@pytest.mark.parametrize("name", ENCODERS)
def test_other_inputs_make_other_uids(name):
    encode = ENCODERS[name]()
    # What only a radiograph needs is not made of a CT.
    source = make_projection() if name == "bands_placed" else make_input()

    here = encode(make_analysis(source), source, make_origin(), ())
    there = encode(make_analysis(source), source, make_origin(inputs=("1.2.3.4.99",)), ())

    assert here[0].SOPInstanceUID != there[0].SOPInstanceUID
    assert here[0].SeriesInstanceUID != there[0].SeriesInstanceUID


def test_two_analyses_of_one_task_have_distinct_objects():
    source = make_input()
    analyses = [make_analysis(source), make_analysis(source, model=make_card(name="another"))]
    encoders = {name: load() for name, load in ENCODERS.items()}

    objects = encode_analyses(analyses, [source], make_origin(), encoders)

    assert len({dataset.SOPInstanceUID for dataset in objects}) == len(objects)


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize("kind", SOURCES)
def test_nothing_found_is_encoded_without_a_crash(name, kind):
    source = SOURCES[kind]()
    empty = make_analysis(source, findings=(), segments=(), explanations=())

    objects = ENCODERS[name]()(empty, source, make_origin(), ())

    assert len(objects) == (1 if name in {"report", "report_basic"} else 0)


@pytest.mark.parametrize("name", ENCODERS)
def test_a_withheld_heatmap_leaves_in_no_object(name):
    source = make_input()
    withheld = make_analysis(
        source,
        segments=(),
        explanations=(make_explanation(source, Verdict.WITHHELD),),
    )

    objects = ENCODERS[name]()(withheld, source, make_origin(), ())

    assert len(objects) == (1 if name in {"report", "report_basic"} else 0)


@pytest.mark.parametrize("name", ENCODERS)
def test_encoding_changes_neither_headers_nor_arrays(name):
    source = make_input()
    analysis = make_analysis(source)
    headers = [str(header) for header in source.headers]
    relevance = analysis.explanations[0].heatmap.relevance.copy()

    ENCODERS[name]()(analysis, source, make_origin(), ())

    assert [str(header) for header in source.headers] == headers
    np.testing.assert_array_equal(analysis.explanations[0].heatmap.relevance, relevance)


@pytest.mark.parametrize(
    ("character_set", "name"),
    [
        ("ISO_IR 126", "Διονυσιος"),
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        ("ISO_IR 127", "قباني^لنزار"),
        ("ISO_IR 192", "Wang^XiaoDong=王^小东"),
    ],
)
def test_names_in_every_script_survive(character_set, name):
    source = make_input(character_set=character_set, name=name)

    for dataset in all_objects(source, findings=(make_finding(label="Läsion ≥ 5 mm"),)):
        again = pydicom.dcmread(io.BytesIO(as_bytes(dataset)))

        assert str(again.PatientName) == name
        assert again.SpecificCharacterSet == character_set


@pytest.mark.parametrize("kind", SOURCES)
def test_patient_and_study_are_those_of_the_source(kind):
    source = SOURCES[kind]()

    for dataset in all_objects(source):
        again = pydicom.dcmread(io.BytesIO(as_bytes(dataset)))

        for keyword, value in {
            "PatientName": "Müller^Änne",
            "PatientID": "P-17",
            "PatientBirthDate": "19500102",
            "StudyInstanceUID": "1.2.3",
            "StudyDate": "20260228",
            "StudyTime": "235959",
            "AccessionNumber": "A-99",
            "PatientAge": "076Y",
        }.items():
            assert str(again[keyword].value) == value
        assert again.SeriesNumber >= 9000
        assert again.SeriesDescription.startswith("AI")
        assert again.SeriesInstanceUID != "1.2.3.5"


def explained_by(method, **changes):
    """An analysis after the gate whose one explanation was made by a method, with a residual."""
    source = make_input()
    values = {"integrity": 1.0, "comprehensiveness": 0.31, "edges": 0.1, "intensity": 0.1}
    measures = tuple(MeasureValue(name=name, value=value) for name, value in values.items())
    explanation = make_explanation(
        source, method=method, residual=0.00041, measures=measures, **changes
    )
    analysis = make_analysis(source, segments=(), explanations=(explanation,))
    return source, apply_gate(analysis, GateSettings())


def coded(item):
    return item.CodeValue, item.CodingSchemeDesignator


def items(dataset):
    for item in dataset.get("ContentSequence", ()):
        yield item
        yield from items(item)


def named(document, meaning):
    """Return the content items of that name, anywhere in a document."""
    return [
        item
        for item in items(document)
        if item.get("ConceptNameCodeSequence")
        and item.ConceptNameCodeSequence[0].CodeMeaning == meaning
    ]


@pytest.mark.parametrize("method", METHODS)
def test_every_object_names_the_method_in_words_and_by_its_code(method):
    source, analysis = explained_by(method)
    encoders = {name: load() for name, load in ENCODERS.items()}
    standard = [value for value, known in VISUAL_EXPLANATIONS.items() if method in known]
    called = method_name(method)

    objects = encode_analyses([analysis], [source], make_origin(), encoders)

    bands, overlay, report = (
        next(d for d in objects if d.SeriesNumber == series) for series in (9200, 9300, 9000)
    )
    algorithm = bands.SegmentSequence[0].SegmentationAlgorithmIdentificationSequence[0]
    codes = {
        coded(algorithm.AlgorithmNameCodeSequence[0]),
        coded(overlay.DerivationCodeSequence[0]),
        coded(named(report, "Explanation method")[0].ConceptCodeSequence[0]),
    }
    ((value, scheme),) = codes
    assert called != method or "_" not in method
    assert scheme == ("DCM" if standard else "99PELLUCID")
    assert [value] == (standard or [value])
    assert f", {called}" in bands.SeriesDescription
    assert f", {called}" in overlay.SeriesDescription
    assert algorithm.AlgorithmName == called
    assert f"by {called} (method={method};" in overlay.DerivationDescription
    assert called in [item.TextValue for item in named(report, "Algorithm Name")]
    assert (
        f"by {called}: explanation grade B, passed its checks"
        in named(report, "Visual explanation")[-1].TextValue
    )


@pytest.mark.parametrize("method", METHODS)
def test_every_object_carries_the_axiom_residual(method):
    source, analysis = explained_by(method)
    encoders = {name: load() for name, load in ENCODERS.items()}
    (explanation,) = analysis.explanations

    objects = encode_analyses([analysis], [source], make_origin(), encoders)
    legend = overlay_legend(
        analysis, explanation, displayed(explanation.heatmap), (), origin=make_origin()
    )

    bands, overlay, report = (
        next(d for d in objects if d.SeriesNumber == series) for series in (9200, 9300, 9000)
    )
    (number,) = named(report, "Axiom residual, relative")
    assert float(number.MeasuredValueSequence[0].NumericValue) == pytest.approx(0.00041)
    assert "axiom residual 0.00041" in bands.SegmentSequence[0].SegmentDescription
    assert "axiom residual 0.00041" in overlay.DerivationDescription
    said = [line.text for section in legend.body for line in section]
    assert [line for line in said if line.startswith("residual 0.041 % (limit ")]


def test_rules_of_one_method_are_told_apart_in_every_viewer():
    source = make_input()
    rules = tuple(
        make_explanation(source, method="lrp", parameters={"rule": rule})
        for rule in ("epsilon", "gamma", "zplus", "cp", "attn")
    )

    objects = all_objects(source, explanations=rules)

    # Bands, overlay, map, coarse map, contours, shades.
    for hundred in range(92, 98):
        told = {d.SeriesDescription for d in objects if d.SeriesNumber // 100 == hundred}
        assert len([each for each in told if "synthetic lesion" in each]) == len(rules), hundred


def test_a_target_weighed_against_another_is_another_object():
    source = make_input()
    encode = ENCODERS["bands"]()

    alone, weighed = (
        encode(
            make_analysis(source, explanations=(make_explanation(source, against=against),)),
            source,
            make_origin(),
            (),
        )[0]
        for against in (None, "cyst")
    )

    assert alone.SOPInstanceUID != weighed.SOPInstanceUID
