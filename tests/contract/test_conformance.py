"""Every kind of object of every kind of image, held by a validator and read by others.

``python -m tests.contract.test_conformance --write`` makes ``docs/conformance.md`` from what
comes out.
"""

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom import Dataset

from dicom_io.analysis import Heatmap, Segment
from dicom_io.check import check_object
from dicom_io.check_source import check_against_source
from dicom_io.codes import REJECTED_FOR_SAFETY, code_for_label
from dicom_io.encode.key_objects import Rejection, encode_rejection
from dicom_io.encode.objects import encode_results
from dicom_io.encode.outcome import encode_outcome
from dicom_io.errors import UnsupportedObjectError
from dicom_io.origin import Predecessor
from dicom_io.outcome import Outcome, OutcomeKind
from dicom_io.read import Input, read_input
from dicom_io.study import Series
from tests.build_analysis import make_analysis, make_explanation, make_origin
from tests.build_sources import REFUSED, SOURCES
from tests.peers import require

PAGE = Path(__file__).parents[2] / "docs" / "conformance.md"
#: In the order of the table; the last two are made of no analysis.
ENCODERS = sorted(entry.name for entry in entry_points(group="pellucid.encoders"))
KINDS = (*ENCODERS, "outcome", "rejection")
#: Why a kind is not made of some images.
REASONS = {
    "parametric_map": "an image without a place in the patient has no map (PS3.3 A.75)",
    "parametric_map_coarse": "as `parametric_map`",
    "bands": "viewers lay bands over an image by its place in the patient",
    "bands_placed": "images with a place get `bands`, images without pixel spacing none",
    "fractional": "as `bands`",
    "segmentation": "this still and this photograph have no pixel spacing, and none is invented",
    "presentation": "grayscale presentation states are of grayscale images (PS3.3 A.33.1)",
}
#: What the validator warns of, by a part of its words, and why it stays.
WARNINGS = {
    "Attribute is not present in standard DICOM IOD": "additions that PS3.2 allows: Device "
    "UID, by which a node knows its own objects, and where from, what by, how qualified",
    "this is a Standard Extended SOP Class": "as the line above",
    "Coding Scheme Designator": "`99PELLUCID` is private, and identified in every object",
    "needed to build DICOMDIR": "the source has no Study Time or Study ID, and none is invented",
    "attribute <Laterality>": "the source does not say which side it shows, and none is guessed",
    "<QUANTITY>": "a defined term of PS3.3 C.8.16.2.1.4, which this validator lacks",
}


def objects_of(source: Input) -> dict[str, list[Dataset]]:
    """Every object of an analysis that marks the brightest voxel, by kind."""
    brightness = source.volume.voxels.sum(axis=0)
    mask = brightness == brightness.max()
    heatmap = Heatmap(relevance=np.where(mask, 1.0, -0.1).astype(np.float32)[None])
    analysis = make_analysis(
        source,
        segments=(Segment(label="lesion", concept=code_for_label("lesion"), mask=mask),),
        explanations=(make_explanation(source, heatmap=heatmap),),
    )
    encoders = {entry.name: entry.load() for entry in entry_points(group="pellucid.encoders")}
    made: dict[str, list[Dataset]] = {kind: [] for kind in KINDS}
    for each in encode_results([analysis], [source], make_origin(), encoders):
        made[each.result].append(each.dataset)
    header, origin = source.headers[0], make_origin()
    refused = Outcome(kind=OutcomeKind.FAILED, reason="the model could not be read")
    made["outcome"] = [encode_outcome(refused, header, origin)]
    old = [predecessor(dataset) for dataset in made["report"]]
    reason = Rejection(title=REJECTED_FOR_SAFETY, words="The model was withdrawn.")
    made["rejection"] = [encode_rejection(old, header, origin=origin, reason=reason)]
    return made


def predecessor(dataset: Dataset) -> Predecessor:
    return Predecessor(
        study_instance_uid=str(dataset.StudyInstanceUID),
        series_instance_uid=str(dataset.SeriesInstanceUID),
        sop_class_uid=str(dataset.SOPClassUID),
        sop_instance_uid=str(dataset.SOPInstanceUID),
    )


def said_by_validator(objects: list[Dataset], folder: Path) -> tuple[list[str], list[str]]:
    """Errors and warnings of dciodvfy."""
    validator = require("/usr/bin/dciodvfy", "install Debian's dicom3tools")
    lines: list[str] = []
    for number, dataset in enumerate(objects):
        path = folder / f"validated-{number}.dcm"
        dataset.save_as(path, enforce_file_format=True)
        ran = subprocess.run([validator, path], capture_output=True, text=True, check=False)
        assert ran.stderr, f"{validator} did not say what the object is"
        lines += (ran.stdout + ran.stderr).splitlines()
    return tuple([line for line in lines if line.startswith(word)] for word in ("Error", "Warn"))


def read_again(objects: dict[str, list[Dataset]], folder: Path) -> Iterator[tuple[str, Dataset]]:
    for kind, made in objects.items():
        for dataset in made:
            path = folder / f"{dataset.SOPInstanceUID}.dcm"
            dataset.save_as(path, enforce_file_format=True)
            yield kind, pydicom.dcmread(path)


def nested(dataset: Dataset) -> Iterator[Dataset]:
    yield dataset
    for element in dataset:
        if element.VR == "SQ":
            for item in element.value:
                yield from nested(item)


def stored_planes(series: Series) -> dict[tuple[str, int], np.ndarray]:
    """Where the frames of the source lie, by its own files: instance and frame to LPS mm."""
    planes = {}
    for instance in series.instances:
        dataset = pydicom.dcmread(instance.path)
        groups = dataset.get("PerFrameFunctionalGroupsSequence")
        places = [g.PlanePositionSequence[0] for g in groups] if groups else [dataset]
        for number, place in enumerate(places, 1):
            if "ImagePositionPatient" in place:
                position = np.array(place.ImagePositionPatient, float)
                planes[str(dataset.SOPInstanceUID), number] = position
    return planes


@dataclass(frozen=True, kw_only=True)
class Made:
    """What was made of one kind of image; small enough to be made once for all tests."""

    series: Series
    source: Input
    objects: dict[str, list[Dataset]]


@pytest.fixture(scope="module", params=SOURCES)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    series = SOURCES[request.param](tmp_path_factory.mktemp("source") / "in")
    source = read_input(series, "image")
    return Made(series=series, source=source, objects=objects_of(source))


@pytest.mark.peers
def test_a_validator_finds_no_error_in_any_object(made: Made, tmp_path: Path) -> None:
    said = {name: said_by_validator(each, tmp_path) for name, each in made.objects.items()}

    assert {name: errors for name, (errors, _) in said.items() if errors} == {}
    unexplained = [
        line
        for _, warnings in said.values()
        for line in warnings
        if not any(part in line for part in WARNINGS)
    ]
    assert unexplained == []


def test_patient_study_and_references_come_back_from_every_object(
    made: Made, tmp_path: Path
) -> None:
    original = pydicom.dcmread(made.series.instances[0].path)
    known = {str(instance.sop_instance_uid) for instance in made.series.instances}
    known |= {str(each.SOPInstanceUID) for objects in made.objects.values() for each in objects}

    for name, again in read_again(made.objects, tmp_path):
        for keyword in ("PatientName", "PatientID", "StudyInstanceUID", "StudyDate"):
            assert again[keyword].value == original[keyword].value, name
        assert again.SeriesInstanceUID != original.SeriesInstanceUID
        referred = {
            str(item.ReferencedSOPInstanceUID)
            for item in nested(again)
            if "ReferencedSOPInstanceUID" in item
        }
        assert referred <= known, name
        assert (referred != set()) is (name != "outcome"), name


def test_every_frame_lies_where_the_source_frame_lies_that_it_names(
    made: Made, tmp_path: Path
) -> None:
    planes = stored_planes(made.series)

    for name, again in read_again(made.objects, tmp_path):
        for frame in again.get("PerFrameFunctionalGroupsSequence", ()):
            place = frame.get("PlanePositionSequence")
            images = frame.DerivationImageSequence[0].SourceImageSequence
            if not planes:
                assert place is None, name
            elif name != "parametric_map_coarse":
                (image,) = images
                number = int(image.get("ReferencedFrameNumber") or 1)
                expected = planes[str(image.ReferencedSOPInstanceUID), number]
                np.testing.assert_allclose(
                    np.array(place[0].ImagePositionPatient, float), expected, atol=1e-4
                )


def test_every_object_passes_our_own_check(made: Made) -> None:
    problems = {
        name: (*check_object(dataset), *check_against_source(dataset, made.source))
        for name, objects in made.objects.items()
        for dataset in objects
    }

    assert {name: said for name, said in problems.items() if said} == {}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_read_is_refused_by_name(kind: str, tmp_path: Path) -> None:
    series = REFUSED[kind](tmp_path)

    with pytest.raises(UnsupportedObjectError):
        read_input(series, "image")


def table() -> dict[str, dict[str, str]]:
    """What the validator says, by kind of object and kind of image."""
    cells: dict[str, dict[str, str]] = {kind: {} for kind in KINDS}
    for image, store in SOURCES.items():
        with tempfile.TemporaryDirectory() as folder:
            source = read_input(store(Path(folder) / "in"), "image")
            for kind, made in objects_of(source).items():
                errors, _ = said_by_validator(made, Path(folder))
                cells[kind][image] = f"{len(errors)}" if made else "-"
    return cells


def page() -> str:
    cells = table()
    lines = [
        "# Conformance: what a validator says of every object",
        "",
        "Errors that `dciodvfy` (dicom3tools 2022-06-18) finds in the objects of each kind, by the",
        "kind of image that they are made of; `-`: none is made. The images are small synthetic",
        "files with an oblique grid, frames in reverse or darker larger values where their kind",
        "has these. This page is what came out: `python -m tests.contract.test_conformance "
        "--write`, or `make conformance`.",
        "",
        "| object | " + " | ".join(SOURCES) + " |",
        "|---|" + "---|" * len(SOURCES),
    ]
    for kind, row in cells.items():
        lines.append(f"| `{kind}` | " + " | ".join(row[image] for image in SOURCES) + " |")
    lines += [
        "",
        "Whole-slide images are refused by name when they are read, so nothing is made of them.",
        "",
        "Where none is made:",
        "",
        *(f"- `{kind}`: {reason}." for kind, reason in REASONS.items()),
        "",
        "The validator knows every object class that is made here. What it warns of, and why that",
        "stays:",
        "",
        *(f"- `{part}`: {reason}." for part, reason in WARNINGS.items()),
        "",
        "A validator would be content with emptied attributes. So the same test reads every object",
        "back with pydicom, and compares patient, study and references with the source files, and",
        "the plane of every frame with that of the source frame it names. Values come back in",
        "`tests/contract/`: `test_results_of_stored_series` (segments, bands),",
        "`test_parametric_map`, `test_fractional`, `test_presentation` (DCMTK reads the lines),",
        "`test_compressed_capture`, `test_key_objects`, `test_reports_read_back`; and",
        "`tests/integration/test_results_in_orthanc` sends all to a PACS, which gives them back.",
    ]
    return "\n".join(lines) + "\n"


@pytest.mark.peers
def test_page_says_what_comes_out() -> None:
    require("/usr/bin/dciodvfy", "install Debian's dicom3tools")
    text = PAGE.read_text(encoding="utf-8")

    rows = {
        cells[0].strip("`"): cells[1:]
        for cells in (
            [cell.strip() for cell in line.strip("|").split("|")]
            for line in text.splitlines()
            if re.match(r"\| `", line)
        )
    }

    assert set(rows) == set(KINDS)
    assert {cell for row in rows.values() for cell in row} == {"0", "-"}


if __name__ == "__main__" and "--write" in sys.argv[1:]:
    PAGE.write_text(page(), encoding="utf-8")
