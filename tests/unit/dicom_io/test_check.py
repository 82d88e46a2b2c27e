"""Our own check: a sound object passes, and each rule catches what it is there for."""

import copy

import pytest
from pydicom import Dataset

from dicom_io.check import (
    RULES,
    check_object,
    check_references,
    require_valid,
)
from dicom_io.check_source import check_against_source
from dicom_io.encode import (
    measurements,
    relevance_bands,
    report,
    secondary_capture,
    segmentation,
)
from dicom_io.errors import EncodingError
from tests.build_analysis import OBLIQUE, make_analysis, make_input, make_origin

SOURCE = make_input(OBLIQUE, "MR")


@pytest.fixture(scope="module")
def sound():
    analysis, origin = make_analysis(SOURCE), make_origin()
    (seg,) = segmentation.encode(analysis, SOURCE, origin, ())
    (bands,) = relevance_bands.encode(analysis, SOURCE, origin, ())
    capture = secondary_capture.encode(analysis, SOURCE, origin, ())[1]
    (document,) = report.encode(analysis, SOURCE, origin, (seg, bands, capture))
    (regions,) = measurements.encode(analysis, SOURCE, origin, (seg, bands, capture))
    return {
        "segmentation": seg,
        "bands": bands,
        "capture": capture,
        "report": document,
        "measurements": regions,
    }


def broken(sound, kind, change):
    dataset = copy.deepcopy(sound[kind])
    dataset.file_meta = copy.deepcopy(sound[kind].file_meta)
    change(dataset)
    return dataset


def setting(**values):
    def change(dataset):
        for keyword, value in values.items():
            setattr(dataset, keyword, value)

    return change


def deleting(keyword):
    return lambda dataset: delattr(dataset, keyword)


@pytest.mark.parametrize("kind", ["segmentation", "bands", "capture", "report", "measurements"])
def test_sound_objects_pass(sound, kind):
    assert check_object(sound[kind]) == ()
    assert check_against_source(sound[kind], SOURCE) == ()
    require_valid(sound[kind], SOURCE)


def unidentify(dataset):
    del dataset.CodingSchemeIdentificationSequence


def drop_frame(dataset):
    dataset.PerFrameFunctionalGroupsSequence = dataset.PerFrameFunctionalGroupsSequence[1:]


def rename_segment(dataset):
    dataset.SegmentSequence[0].SegmentNumber = 2


def forget_meaning(dataset):
    dataset.SegmentSequence[0].SegmentedPropertyTypeCodeSequence[0].CodeMeaning = ""


def lengthen_code(dataset):
    dataset.SegmentSequence[0].SegmentedPropertyTypeCodeSequence[0].CodeValue = "X" * 16
    element = dataset.SegmentSequence[0].SegmentedPropertyTypeCodeSequence[0]["CodeValue"]
    element._value = "X" * 17


def spoil_nested_uid(dataset):
    item = dataset.PerFrameFunctionalGroupsSequence[0].DerivationImageSequence[0]
    element = item.SourceImageSequence[0]["ReferencedSOPInstanceUID"]
    element._value = "1.2.x"


def spoil_own_uid(dataset):
    dataset["SOPInstanceUID"]._value = "1.02.3"


def inherit_leading_zero(dataset):
    dataset["StudyInstanceUID"]._value = "1.02.3"


def forget_device(dataset):
    for item in dataset.ContributingEquipmentSequence:
        del item.DeviceUID


def forget_weights(dataset):
    dataset.ContributingEquipmentSequence[1].SoftwareVersions = "1.0"


def other_meta(dataset):
    dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    dataset.file_meta.MediaStorageSOPClassUID = "1.2.4"


def no_meta(dataset):
    del dataset.file_meta.TransferSyntaxUID


def drop_evidence(dataset):
    dataset.CurrentRequestedProcedureEvidenceSequence = []


@pytest.mark.parametrize(
    ("kind", "change", "said"),
    [
        ("report", deleting("PatientName"), "PatientName is missing"),
        ("report", deleting("AccessionNumber"), "AccessionNumber is missing"),
        ("report", setting(Manufacturer=""), "Manufacturer has no value"),
        ("capture", setting(InstanceNumber=None), "InstanceNumber has no value"),
        ("segmentation", spoil_nested_uid, "'1.2.x' is not a UID"),
        ("segmentation", spoil_own_uid, "SOPInstanceUID '1.02.3' is not a UID"),
        ("capture", other_meta, "names another SOP Instance"),
        ("capture", other_meta, "names another SOP Class"),
        ("capture", no_meta, "no TransferSyntaxUID"),
        ("capture", setting(SeriesNumber=12), "below 9000"),
        ("capture", setting(SeriesDescription="overlay"), "does not begin with AI"),
        ("report", setting(DeviceUID=""), "DeviceUID has no value"),
        ("report", forget_device, "does not carry our Device UID"),
        ("report", forget_weights, "sha256 of the weights"),
        ("report", deleting("ContentQualification"), "ContentQualification is None"),
        ("bands", unidentify, "99PELLUCID is used but not identified"),
        ("segmentation", forget_meaning, "no scheme or no meaning"),
        ("segmentation", lengthen_code, "does not fit SH"),
        ("capture", deleting("PixelData"), "PixelData is missing"),
        ("capture", setting(PixelData=b"\0\0"), "PixelData has 2 bytes, expected"),
        ("segmentation", setting(PixelData=b"\0\0"), "PixelData has 2 bytes, expected"),
        ("capture", deleting("BurnedInAnnotation"), "BurnedInAnnotation has no value"),
        ("capture", setting(SourceImageSequence=[]), "SourceImageSequence has no item"),
        ("segmentation", drop_frame, "frames are described, NumberOfFrames is"),
        ("segmentation", rename_segment, "segments are numbered [2]"),
        ("segmentation", rename_segment, "frames show segments [1]"),
        ("measurements", drop_evidence, "is not in the evidence"),
        ("report", setting(ContentSequence=[]), "the report has no content"),
    ],
)
def test_each_rule_catches_its_mistake(sound, kind, change, said):
    dataset = broken(sound, kind, change)

    assert any(said in problem for problem in check_object(dataset))


def test_leading_zero_of_the_source_is_kept_and_tolerated(sound):
    dataset = broken(sound, "report", inherit_leading_zero)

    assert check_object(dataset) == ()


def test_object_without_anything_is_described_and_not_a_crash():
    problems = check_object(Dataset())

    assert len(problems) > 20


def move_frame(dataset):
    plane = dataset.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence[0]
    plane.ImagePositionPatient = [0, 0, 0]


def swap_reference(dataset):
    item = dataset.PerFrameFunctionalGroupsSequence[0].DerivationImageSequence[0]
    item.SourceImageSequence[0].ReferencedSOPInstanceUID = "1.2.3.4.77"


def mirror(dataset):
    plane = dataset.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0]
    plane.ImageOrientationPatient = [-float(v) for v in plane.ImageOrientationPatient]


def mirror_capture(dataset):
    dataset.ImageOrientationPatient = [-float(v) for v in dataset.ImageOrientationPatient]


def stretch(dataset):
    dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing = [0.7, 0.8]


def lift_capture(dataset):
    dataset.ImagePositionPatient = [float(v) + 5 for v in dataset.ImagePositionPatient]


def swap_capture(dataset):
    dataset.SourceImageSequence[0].ReferencedSOPInstanceUID = "1.2.3.4.77"


@pytest.mark.parametrize(
    ("kind", "change", "said"),
    [
        ("report", setting(PatientID="P-18"), "PatientID differs from the source"),
        ("report", setting(PatientName="Other"), "PatientName differs from the source"),
        ("capture", setting(StudyInstanceUID="1.2.4"), "StudyInstanceUID differs"),
        ("capture", setting(StudyDate="20200101"), "StudyDate differs"),
        ("bands", setting(FrameOfReferenceUID="1.2.8"), "is not the source's"),
        ("bands", deleting("FrameOfReferenceUID"), "FrameOfReferenceUID is missing"),
        ("segmentation", setting(Rows=41), "the source has others"),
        ("segmentation", move_frame, "mm away from its source frame"),
        ("segmentation", swap_reference, "refers to a frame that is not in the source"),
        ("segmentation", mirror, "ImageOrientationPatient differs"),
        ("capture", mirror_capture, "ImageOrientationPatient differs"),
        ("capture", lift_capture, "out of the plane of its source frame"),
        ("capture", swap_capture, "refers to a frame that is not in the source"),
        ("segmentation", stretch, "PixelSpacing 0.7, 0.8 mm is not the source's"),
        ("capture", setting(PixelSpacing=[0.7, 0.7]), "PixelSpacing 0.7, 0.7 mm is no whole part"),
    ],
)
def test_each_rule_about_the_source_catches_its_mistake(sound, kind, change, said):
    dataset = broken(sound, kind, change)

    assert any(said in problem for problem in check_against_source(dataset, SOURCE))


def test_problems_never_carry_the_patient(sound):
    dataset = broken(sound, "report", setting(PatientName="Secret^Name", PatientID="SECRET"))

    with pytest.raises(EncodingError) as caught:
        require_valid(dataset, SOURCE)

    assert "SECRET" not in str(caught.value).upper()


def test_unknown_references_are_named(sound):
    known = {frame.sop_instance_uid for frame in SOURCE.volume.frames}

    assert check_references(sound["capture"], known) == ()
    assert "unknown instance" in check_references(sound["report"], known)[0]


def test_every_rule_names_the_standard():
    for rule in RULES:
        assert "PS3." in rule.__doc__ or "C." in rule.__doc__
