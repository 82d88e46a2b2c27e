"""What the AI flagged, and what is withdrawn: read back by highdicom, held by a validator."""

import subprocess

import highdicom as hd
import pydicom
import pytest

from dicom_io.analysis import Verdict
from dicom_io.check import check_object
from dicom_io.check_source import check_against_source
from dicom_io.codes import OF_INTEREST, REJECTED_FOR_QUALITY, REJECTED_FOR_SAFETY
from dicom_io.encode import key_objects, relevance_bands, report, secondary_capture
from dicom_io.encode.key_objects import Rejection, encode_rejection
from dicom_io.encode.objects import encode_analyses
from dicom_io.errors import EncodingError
from dicom_io.origin import Predecessor
from tests.build_analysis import (
    make_analysis,
    make_enhanced_input,
    make_explanation,
    make_input,
    make_origin,
    make_photograph,
)
from tests.peers import require

ENCODERS = {
    "report": report.encode,
    "bands": relevance_bands.encode,
    "overlay": secondary_capture.encode,
    "key_objects": key_objects.encode,
}


def saved(dataset, folder):
    path = folder / f"{dataset.SOPInstanceUID}.dcm"
    dataset.save_as(path, enforce_file_format=True)
    return path


def errors_of(path):
    validator = require("/usr/bin/dciodvfy", "install Debian's dicom3tools")
    ran = subprocess.run([validator, path], capture_output=True, text=True, check=False)
    return [line for line in (ran.stdout + ran.stderr).splitlines() if line.startswith("Error")]


def withdrawn(source, objects):
    return [
        Predecessor(
            study_instance_uid=str(each.StudyInstanceUID),
            series_instance_uid=str(each.SeriesInstanceUID),
            sop_class_uid=str(each.SOPClassUID),
            sop_instance_uid=str(each.SOPInstanceUID),
        )
        for each in objects
    ]


SAFETY = Rejection(title=REJECTED_FOR_SAFETY, words="The model was withdrawn by its maker.")


@pytest.mark.parametrize("make", [make_input, make_enhanced_input, make_photograph])
def test_what_is_flagged_comes_back_with_the_key_image_and_every_object_of_ours(make, tmp_path):
    source = make()
    analysis = make_analysis(source, segments=())

    objects = encode_analyses([analysis], [source], make_origin(), ENCODERS)
    selection = hd.ko.KeyObjectSelectionDocument.from_dataset(
        pydicom.dcmread(saved(objects[-1], tmp_path))
    )

    content = selection.content[0].ContentSequence
    referred = [
        item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID
        for item in content
        if item.ValueType in ("IMAGE", "COMPOSITE")
    ]
    (words,) = (
        item.TextValue
        for item in content
        if item.ValueType == "TEXT" and item.name.value == "113012"
    )
    ours = {each.SOPInstanceUID for each in objects[:-1] if each.Modality != "OT"}
    assert selection.ConceptNameCodeSequence[0].CodeValue == OF_INTEREST.value
    assert ours <= set(referred)
    assert {frame.sop_instance_uid for frame in source.volume.frames} & set(referred)
    assert sum(each.SOPInstanceUID in referred for each in objects if each.Modality == "OT") == 1
    assert "synthetic lesion: PRESENT, probability 87.0 %" in words
    assert "not for diagnostic use" in words
    assert str(selection.PatientName) == "Müller^Änne"


def test_the_flagged_frame_of_a_multi_frame_source_is_that_of_the_marker(tmp_path):
    source = make_enhanced_input()
    analysis = make_analysis(source, segments=())
    relevance = analysis.explanations[0].heatmap.relevance
    brightest = relevance.clip(min=0).sum(axis=(0, 2, 3)).argmax()

    (selection,) = key_objects.encode(analysis, source, make_origin(), ())

    (image,) = (item for item in selection.ContentSequence if item.ValueType == "IMAGE")
    number = image.ReferencedSOPSequence[0].ReferencedFrameNumber
    assert number == source.volume.frames[brightest].frame_number


def test_nothing_is_flagged_where_the_only_heatmap_was_withheld():
    source = make_input()
    withheld = make_explanation(source, Verdict.WITHHELD)
    analysis = make_analysis(source, segments=(), explanations=(withheld,))

    assert key_objects.encode(analysis, source, make_origin(), ()) == ()


@pytest.mark.peers
def test_a_rejection_note_names_every_object_and_the_reason(tmp_path):
    source = make_input()
    objects = encode_analyses([make_analysis(source)], [source], make_origin(), ENCODERS)

    note = encode_rejection(
        withdrawn(source, objects), source.headers[0], origin=make_origin(), reason=SAFETY
    )
    path = saved(note, tmp_path)
    again = hd.ko.KeyObjectSelectionDocument.from_dataset(pydicom.dcmread(path))

    assert (check_object(note), check_against_source(note, source)) == ((), ())
    assert errors_of(path) == []
    assert again.ConceptNameCodeSequence[0].CodeValue == "113037"
    for each in objects:
        study, series, instance = again.resolve_reference(each.SOPInstanceUID)
        assert (study, series) == (each.StudyInstanceUID, each.SeriesInstanceUID)
        assert instance == each.SOPInstanceUID
    words = [item.TextValue for item in note.ContentSequence if item.ValueType == "TEXT"]
    assert "AI results withdrawn. The model was withdrawn by its maker." in words


def test_a_retried_withdrawal_makes_the_same_note_and_another_reason_another():
    source = make_input()
    objects = withdrawn(
        source, key_objects.encode(make_analysis(source), source, make_origin(), ())
    )
    other = Rejection(title=REJECTED_FOR_QUALITY, words="Replaced by a later report.")

    notes = [
        encode_rejection(objects, source.headers[0], origin=make_origin(), reason=reason)
        for reason in (SAFETY, SAFETY, other)
    ]

    assert notes[0] == notes[1]
    assert notes[0].SOPInstanceUID != notes[2].SOPInstanceUID


def test_a_withdrawal_of_another_study_or_under_no_rejection_is_refused():
    source = make_input()
    objects = withdrawn(
        source, key_objects.encode(make_analysis(source), source, make_origin(), ())
    )
    stranger = Predecessor(
        study_instance_uid="1.2.99",
        series_instance_uid="1.2.98",
        sop_class_uid=objects[0].sop_class_uid,
        sop_instance_uid="1.2.97",
    )
    header, origin = source.headers[0], make_origin()

    with pytest.raises(EncodingError, match=r"is of study 1\.2\.99"):
        encode_rejection([*objects, stranger], header, origin=origin, reason=SAFETY)
    with pytest.raises(EncodingError, match="nothing to withdraw"):
        encode_rejection([], header, origin=origin, reason=SAFETY)
    with pytest.raises(EncodingError, match="'Of Interest' rejects nothing"):
        encode_rejection(
            objects, header, origin=origin, reason=Rejection(title=OF_INTEREST, words="No.")
        )
