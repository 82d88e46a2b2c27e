"""Truths are laid onto the image they belong to, voxel by voxel, or refused."""

import nibabel
import numpy as np
import pytest
from highdicom.sr import (
    CodedConcept,
    ComprehensiveSR,
    DeviceObserverIdentifyingAttributes,
    ImageRegion,
    MeasurementReport,
    ObservationContext,
    ObserverContext,
    PlanarROIMeasurementsAndQualitativeEvaluations,
    ReferencedSegment,
    SourceImageForRegion,
    SourceSeriesForSegmentation,
    TrackingIdentifier,
    VolumetricROIMeasurementsAndQualitativeEvaluations,
)
from pydicom import dcmread

from benchmarks.known_phantoms import write_segmentation
from dicom_io.analysis import Analysis, Segment
from dicom_io.codes import SYNTHETIC_LESION
from dicom_io.encode import segmentation
from dicom_io.errors import TruthError
from dicom_io.read import read_input
from dicom_io.truth.folder import files_of, labels_of, read_truth, read_truth_folder
from dicom_io.uids import named_uid
from tests.build import DIRECTIONS, marked_volume, slice_datasets, stored
from tests.build_analysis import make_card, make_origin

ORIENTATIONS = (*DIRECTIONS, "oblique")
NODULE = CodedConcept("27925004", "SCT", "Nodule")
LPS_FROM_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def known_series(folder, orientation="axial", seed="known"):
    datasets = slice_datasets(marked_volume(orientation, modality="MR"), seed=seed)
    return stored(folder / "data" / seed, datasets)


def lopsided(shape):
    """A mask that is in no symmetry with itself, in two slices that are no neighbors."""
    mask = np.zeros(shape, np.bool_)
    mask[1, 2:4, 1:6] = True
    mask[3, 5, 7:9] = True
    return mask


def truth_of(series, folder):
    """Return the regions that a folder has of a series, and the image."""
    volume = read_input(series, "image").volume
    truths = read_truth_folder(folder)
    return read_truth(files_of(series, truths), series, volume, truths), volume


def write_nifti(path, mask, affine):
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(mask.astype(np.uint8), LPS_FROM_RAS @ affine), path)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_a_segmentation_lies_where_it_was_drawn(tmp_path, orientation):
    series = known_series(tmp_path, orientation)
    source = read_input(series, "image")
    mask = lopsided(source.volume.grid_shape)
    (tmp_path / "truth").mkdir()
    write_segmentation(mask, source, tmp_path / "truth" / "seg.dcm")

    (region,), _ = truth_of(series, tmp_path / "truth")

    assert np.array_equal(region.mask, mask)
    assert region.concept == SYNTHETIC_LESION


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_a_nifti_mask_with_turned_axes_lies_where_it_was_drawn(tmp_path, orientation):
    series = known_series(tmp_path, orientation)
    volume = read_input(series, "image").volume
    mask = lopsided(volume.grid_shape)
    # The columns run the other way, and the axes are [column, row, slice]: as exports write them.
    flip = np.eye(4)
    flip[2, 2], flip[2, 3] = -1, mask.shape[2] - 1
    turned = mask[:, :, ::-1].transpose(2, 1, 0)
    affine = volume.affine @ flip @ np.eye(4)[[2, 1, 0, 3]]
    write_nifti(tmp_path / "truth" / f"{series.series_instance_uid}.nii.gz", turned, affine)

    (region,), _ = truth_of(series, tmp_path / "truth")

    assert np.array_equal(region.mask, mask)
    assert region.value == 1


def test_a_nifti_mask_named_after_the_folder_of_its_series_is_found(tmp_path):
    series = known_series(tmp_path, seed="case-7")
    volume = read_input(series, "image").volume
    write_nifti(tmp_path / "truth" / "case-7.nii", lopsided(volume.grid_shape), volume.affine)

    (region,), _ = truth_of(series, tmp_path / "truth")

    assert region.mask.sum() == lopsided(volume.grid_shape).sum()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (np.diag([-1.0, 1.0, 1.0, 1.0]), "outside of the image|beside"),
        (np.diag([1.0, 1.0, 1.1, 1.0]), "beside|resample"),
        (np.diag([2.0, 1.0, 1.0, 1.0]), "resample it onto the image's grid"),
    ],
    ids=["mirrored", "stretched", "coarser"],
)
def test_a_nifti_mask_of_another_grid_is_refused(tmp_path, change, words):
    series = known_series(tmp_path)
    volume = read_input(series, "image").volume
    mask = lopsided(volume.grid_shape)
    write_nifti(
        tmp_path / "truth" / f"{series.series_instance_uid}.nii", mask, change @ volume.affine
    )

    with pytest.raises(TruthError, match=words):
        truth_of(series, tmp_path / "truth")


def test_a_nifti_mask_without_a_place_is_refused(tmp_path):
    series = known_series(tmp_path)
    volume = read_input(series, "image").volume
    path = tmp_path / "truth" / f"{series.series_instance_uid}.nii"
    path.parent.mkdir()
    image = nibabel.Nifti1Image(lopsided(volume.grid_shape).astype(np.uint8), None)
    image.header["sform_code"] = image.header["qform_code"] = 0
    nibabel.save(image, path)

    with pytest.raises(TruthError, match="left and right would have to be guessed"):
        truth_of(series, tmp_path / "truth")


def test_a_report_leads_to_the_segment_that_it_refers_to(tmp_path):
    series = known_series(tmp_path)
    source = read_input(series, "image")
    mask = lopsided(source.volume.grid_shape)
    segment = Segment(label="Synthetic lesion", concept=SYNTHETIC_LESION, mask=mask)
    analysis = Analysis(model=make_card(), input_name="image", segments=(segment,))
    (seg,) = segmentation.encode(analysis, source, make_origin(), ())
    headers = [dcmread(instance.path) for instance in series.instances]
    segment_report(headers, seg).save_as(folder(tmp_path) / "sr.dcm", enforce_file_format=True)
    truths = read_truth_folder(tmp_path / "truth")

    with pytest.raises(TruthError, match="put that beside it"):
        read_truth(files_of(series, truths), series, source.volume, truths)
    seg.save_as(tmp_path / "truth" / "seg.dcm", enforce_file_format=True)
    regions, _ = truth_of(series, tmp_path / "truth")

    assert [np.array_equal(region.mask, mask) for region in regions] == [True, True]
    assert {region.label for region in regions} == {"Nodule", "Synthetic lesion"}


def test_an_outline_of_a_report_holds_the_pixels_whose_centers_it_surrounds(tmp_path):
    series = known_series(tmp_path)
    volume = read_input(series, "image").volume
    headers = [dcmread(instance.path) for instance in series.instances]
    drawn_on = next(h for h in headers if h.SOPInstanceUID == volume.frames[3].sop_instance_uid)
    # Columns 2 to 5 of rows 4 to 6.
    corners = np.array([[2.0, 4.0], [6.0, 4.0], [6.0, 7.0], [2.0, 7.0]])
    outlined_report(headers, drawn_on, corners).save_as(
        folder(tmp_path) / "sr.dcm", enforce_file_format=True
    )

    (region,), _ = truth_of(series, tmp_path / "truth")

    expected = np.zeros(volume.grid_shape, np.bool_)
    expected[3, 4:7, 2:6] = True
    assert np.array_equal(region.mask, expected)
    assert region.label == "Nodule"


def test_a_truth_of_another_patient_is_refused(tmp_path):
    series = known_series(tmp_path)
    source = read_input(series, "image")
    path = folder(tmp_path) / "seg.dcm"
    write_segmentation(lopsided(source.volume.grid_shape), source, path)
    dataset = dcmread(path)
    dataset.PatientID = "SOMEBODY ELSE"
    dataset.save_as(path)

    with pytest.raises(TruthError, match="another patient") as raised:
        truth_of(series, tmp_path / "truth")

    assert "SOMEBODY" not in str(raised.value)


def test_a_truth_of_another_study_that_claims_the_series_is_refused(tmp_path):
    series = known_series(tmp_path)
    source = read_input(series, "image")
    path = folder(tmp_path) / "seg.dcm"
    write_segmentation(lopsided(source.volume.grid_shape), source, path)
    dataset = dcmread(path)
    dataset.StudyInstanceUID = named_uid("another study")
    dataset.save_as(path)

    with pytest.raises(TruthError, match="belongs to study"):
        truth_of(series, tmp_path / "truth")


def test_a_segmentation_in_another_frame_of_reference_is_refused(tmp_path):
    series = known_series(tmp_path)
    source = read_input(series, "image")
    path = folder(tmp_path) / "seg.dcm"
    write_segmentation(lopsided(source.volume.grid_shape), source, path)
    dataset = dcmread(path)
    dataset.FrameOfReferenceUID = named_uid("elsewhere")
    dataset.save_as(path)

    with pytest.raises(TruthError, match="frame of reference"):
        truth_of(series, tmp_path / "truth")


def test_a_frame_that_lies_on_another_slice_than_it_was_drawn_on_is_refused(tmp_path):
    series = known_series(tmp_path)
    source = read_input(series, "image")
    path = folder(tmp_path) / "seg.dcm"
    write_segmentation(lopsided(source.volume.grid_shape), source, path)
    dataset = dcmread(path)
    first, last = dataset.PerFrameFunctionalGroupsSequence
    first.PlanePositionSequence, last.PlanePositionSequence = (
        last.PlanePositionSequence,
        first.PlanePositionSequence,
    )
    dataset.save_as(path)

    with pytest.raises(TruthError, match="was drawn on"):
        truth_of(series, tmp_path / "truth")


def test_a_truth_of_no_series_belongs_to_none(tmp_path):
    series = known_series(tmp_path)
    other = known_series(tmp_path, seed="other")
    source = read_input(other, "image")
    write_segmentation(lopsided(source.volume.grid_shape), source, folder(tmp_path) / "seg.dcm")

    truths = read_truth_folder(tmp_path / "truth")

    assert files_of(series, truths) == ()
    assert len(files_of(other, truths)) == 1


def test_the_table_says_which_labels_are_there(tmp_path):
    series = known_series(tmp_path, seed="case-7")
    (folder(tmp_path) / "truth.csv").write_text(
        f"case,label,there\ncase-7,Nodule,1\n{series.series_instance_uid},Effusion,0\n"
    )

    truths = read_truth_folder(tmp_path / "truth")

    assert labels_of(series, truths) == {"Nodule": True, "Effusion": False}


def test_a_table_that_is_none_is_refused_with_its_line(tmp_path):
    (folder(tmp_path) / "truth.csv").write_text("a,Nodule,1\nb,Nodule,maybe\n")

    with pytest.raises(TruthError, match="line 2"):
        read_truth_folder(tmp_path / "truth")


def folder(tmp_path):
    path = tmp_path / "truth"
    path.mkdir(exist_ok=True)
    return path


def outlined_report(headers, drawn_on, corners):
    """Return a report as another vendor would write it, with highdicom: one closed outline."""
    region = ImageRegion(
        graphic_type="POLYLINE",
        graphic_data=np.vstack([corners, corners[:1]]),
        source_image=SourceImageForRegion(
            referenced_sop_class_uid=drawn_on.SOPClassUID,
            referenced_sop_instance_uid=drawn_on.SOPInstanceUID,
        ),
    )
    group = PlanarROIMeasurementsAndQualitativeEvaluations(
        referenced_region=region,
        tracking_identifier=TrackingIdentifier(uid=named_uid("roi"), identifier="roi"),
        finding_type=NODULE,
    )
    return reported(group, headers)


def segment_report(headers, seg):
    """Return a report of another vendor on the first segment of a segmentation."""
    group = VolumetricROIMeasurementsAndQualitativeEvaluations(
        referenced_segment=ReferencedSegment(
            sop_class_uid=seg.SOPClassUID,
            sop_instance_uid=seg.SOPInstanceUID,
            segment_number=1,
            source_series=SourceSeriesForSegmentation(headers[0].SeriesInstanceUID),
        ),
        tracking_identifier=TrackingIdentifier(uid=named_uid("roi"), identifier="roi"),
        finding_type=NODULE,
    )
    return reported(group, [*headers, seg])


def reported(group, evidence):
    """Return a document of one measurement group."""
    device = DeviceObserverIdentifyingAttributes(uid=named_uid("device"))
    content = MeasurementReport(
        observation_context=ObservationContext(
            observer_device_context=ObserverContext(
                observer_type=CodedConcept("121007", "DCM", "Device"),
                observer_identifying_attributes=device,
            )
        ),
        procedure_reported=CodedConcept("363679005", "SCT", "Imaging procedure"),
        imaging_measurements=[group],
    )
    return ComprehensiveSR(
        evidence=evidence,
        content=content[0],
        series_instance_uid=named_uid("sr series"),
        series_number=9,
        sop_instance_uid=named_uid("sr"),
        instance_number=1,
        manufacturer="another vendor",
    )
