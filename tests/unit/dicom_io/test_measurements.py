"""The measurement report puts a box with its numbers on the right pixels of the right image."""

import highdicom as hd
import numpy as np
import pytest
from pydicom.sr.codedict import codes

from dicom_io.analysis import Familiarity, Heatmap, Verdict
from dicom_io.encode import measurements, relevance_bands, secondary_capture, segmentation
from dicom_io.encode.regions import hot_box, mask_box, regions_of
from dicom_io.reported import regions_in
from dicom_io.truth.report import read_report
from tests.build_analysis import (
    OBLIQUE,
    SAGITTAL,
    left_marker,
    make_analysis,
    make_enhanced_input,
    make_explanation,
    make_finding,
    make_input,
    make_origin,
    make_photograph,
    make_projection,
    make_segment,
)
from tests.unit.dicom_io.test_report import items, values

SOURCES = {
    "axial CT": make_input,
    "oblique MR": lambda: make_input(OBLIQUE, "MR"),
    "sagittal MR": lambda: make_input(SAGITTAL, "MR"),
    "multi-frame MR": make_enhanced_input,
    "radiograph": make_projection,
    "photograph": make_photograph,
}


def written(source, **changes):
    """The measurement report, and the objects that it refers to."""
    origin, analysis = make_origin(), make_analysis(source, **changes)
    produced = ()
    for encoder in (segmentation, relevance_bands, secondary_capture):
        produced += encoder.encode(analysis, source, origin, produced)
    (dataset,) = measurements.encode(analysis, source, origin, produced)
    return dataset, produced


def marker_on(source):
    return left_marker(source.volume.grid_shape, source.volume.affine)


@pytest.mark.parametrize("kind", SOURCES)
def test_the_box_encloses_the_marker_and_not_its_mirror_image(kind):
    source = SOURCES[kind]()
    segment = make_segment(source)
    dataset, _ = written(source, findings=(), explanations=())

    (region,) = regions_in(dataset)

    (frame,) = {
        index
        for index, each in enumerate(source.volume.frames)
        if (each.sop_instance_uid, each.frame_number)
        == (region.sop_instance_uid, region.frame_number)
    }
    rows, columns = np.nonzero(segment.mask[frame])
    corners = np.array(region.outline)
    assert corners.min(axis=0).tolist() == [columns.min(), rows.min()]
    assert corners.max(axis=0).tolist() == [columns.max() + 1, rows.max() + 1]
    assert corners[0].tolist() == corners[-1].tolist()
    assert segment.mask[frame].sum() == segment.mask.sum(axis=(1, 2)).max()


@pytest.mark.parametrize("orientation", [OBLIQUE, SAGITTAL])
def test_an_independent_transformation_puts_the_box_where_the_marker_is_in_the_patient(orientation):
    source = make_input(orientation, "MR")
    (region,) = regions_in(written(source, findings=(), explanations=())[0])
    header = next(h for h in source.headers if h.SOPInstanceUID == region.sop_instance_uid)
    to_patient = hd.spatial.ImageToReferenceTransformer(
        image_position=[float(v) for v in header.ImagePositionPatient],
        image_orientation=[float(v) for v in header.ImageOrientationPatient],
        pixel_spacing=[float(v) for v in header.PixelSpacing],
    )

    center = to_patient(np.mean(region.outline[:4], axis=0)[None])[0]

    index = int(marker_on(source).sum(axis=(1, 2)).argmax())
    marked = np.argwhere(marker_on(source)[index])
    middle = (marked.min(axis=0) + marked.max(axis=0)) / 2
    expected = (source.volume.affine @ (index, *middle, 1.0))[:3]
    np.testing.assert_allclose(center, expected, atol=1e-3)


@pytest.mark.parametrize("kind", ["axial CT", "oblique MR", "multi-frame MR", "radiograph"])
def test_the_reader_of_reference_regions_sees_the_same_pixels(kind):
    source = SOURCES[kind]()
    segment = make_segment(source)
    dataset, _ = written(source, findings=(), explanations=())

    (region,) = read_report(dataset, source.volume, {})

    box = mask_box(segment.mask)
    inside = np.zeros(source.volume.grid_shape, bool)
    inside[box.slice, box.first_row : box.last_row + 1, box.first_column : box.last_column + 1] = (
        True
    )
    np.testing.assert_array_equal(region.mask, inside)


def test_a_heatmap_gives_the_box_of_what_the_overlay_outlines():
    source = make_input()
    explanation = make_explanation(source)

    box = hot_box(explanation)

    relevance = explanation.heatmap.relevance[0]
    peak = np.unravel_index(relevance.argmax(), relevance.shape)
    assert box.slice == peak[0]
    assert box.first_row <= peak[1] <= box.last_row
    assert box.first_column <= peak[2] <= box.last_column
    assert 0 < box.share < 1


def test_of_two_foci_the_box_is_of_the_stronger_and_says_how_much_lies_in_it():
    source = make_input()
    relevance = np.zeros((1, *source.volume.grid_shape), np.float32)
    relevance[0, 2, 5:8, 5:8] = 1.0
    relevance[0, 2, 30:32, 40:42] = 1.0

    box = hot_box(make_explanation(source, heatmap=Heatmap(relevance=relevance)))

    assert (box.first_row, box.first_column, box.last_row, box.last_column) == (5, 5, 7, 7)
    assert box.share == pytest.approx(9 / 13)


def test_highdicom_reads_the_planar_groups_with_their_numbers_and_pictures(tmp_path):
    source = make_input()
    dataset, produced = written(source)
    dataset.save_as(tmp_path / "measurements.dcm", enforce_file_format=True)

    content = hd.sr.srread(tmp_path / "measurements.dcm").content
    finding, segment = content.get_planar_roi_measurement_groups()

    (probability,) = finding.get_measurements(name=codes.DCM.Probability)
    assert (probability.value, probability.unit.value) == (87, "%")
    assert probability.name.meaning == "AI synthetic lesion probability"
    assert finding.roi.graphic_type.value == "POLYLINE"
    (volume,) = segment.get_measurements(name=codes.SCT.Volume)
    assert volume.value == pytest.approx(make_segment(source).mask.sum() * 3 * 0.8 * 0.7 / 1000)
    assert segment.tracking_uid == produced[0].SegmentSequence[0].TrackingUID
    assert content.get_image_measurement_groups() == []
    assert content.get_volumetric_roi_measurement_groups() == []
    pictures = regions_in(dataset)[0].pictures
    bands = next(d for d in produced if "evidence" in d.SeriesDescription)
    captures = {d.SOPInstanceUID for d in produced if d.Modality == "OT"}
    assert pictures[0] == bands.SOPInstanceUID
    assert set(pictures[1:]) <= captures
    assert len(pictures) == 2


def test_a_multi_frame_image_is_referred_to_by_its_frame():
    source = make_enhanced_input()

    dataset, _ = written(source)

    references = [i.ReferencedSOPSequence[0] for i in items(dataset) if i.ValueType == "IMAGE"]
    of_source = [r for r in references if r.ReferencedSOPInstanceUID == "1.2.3.4.1"]
    assert of_source
    assert all(1 <= r.ReferencedFrameNumber <= 6 for r in of_source)


@pytest.mark.parametrize(
    "changes",
    [
        {"findings": (), "segments": (), "explanations": ()},
        {"findings": (make_finding(0.1),), "segments": ()},
        {"segments": (), "explanations": ()},
    ],
)
def test_without_a_region_there_is_no_measurement_report(changes):
    source = make_input()

    made = measurements.encode(make_analysis(source, **changes), source, make_origin(), ())

    assert made == ()


def test_a_withheld_heatmap_gives_no_box():
    source = make_input()
    withheld = make_explanation(source, Verdict.WITHHELD)

    analysis = make_analysis(source, segments=(), explanations=(withheld,))

    assert regions_of(analysis, source.volume) == ()


def test_anatomy_gets_no_box_and_a_finding_lies_in_the_structure_of_its_name():
    source = make_input()
    segments = (make_segment(source, "liver"), make_segment(source, "synthetic lesion"))

    (region,) = regions_of(make_analysis(source, segments=segments), source.volume)

    assert region.finding[1].label == region.segment[1].label == "synthetic lesion"
    assert [each.method for _, each in region.explanations] == ["layer_cam"]


def test_anatomy_that_was_explained_gets_the_box_of_its_evidence():
    source = make_input()
    explanation = make_explanation(source, target="liver")
    analysis = make_analysis(
        source, findings=(), segments=(make_segment(source, "liver"),), explanations=(explanation,)
    )

    (region,) = regions_of(analysis, source.volume)

    assert region.box == hot_box(explanation)
    assert region.box.is_evidence


def test_every_explanation_of_anatomy_gives_its_pictures():
    source = make_input()
    explanations = tuple(
        make_explanation(source, target="liver", method=method) for method in ("lrp", "layer_cam")
    )

    dataset, produced = written(
        source, findings=(), segments=(make_segment(source, "liver"),), explanations=explanations
    )

    (region,) = regions_in(dataset)
    bands = {str(d.SOPInstanceUID) for d in produced if "evidence" in d.SeriesDescription}
    assert len(bands) == 2
    assert bands < set(region.pictures)


def test_numbers_of_a_strange_image_say_so_themselves():
    source = make_input()
    strange = Familiarity(distance=9.0, distance_limit=1.0, energy=-2.0, energy_limit=-1.0)

    dataset, _ = written(source, familiarity=strange)

    names = {i.ConceptNameCodeSequence[0].CodeMeaning for i in items(dataset)}
    assert "NOT RELIABLE: AI synthetic lesion probability" in names
    assert "NOT RELIABLE" in dataset.SeriesDescription
    assert values(dataset, "Conclusion")[0].startswith("DO NOT RELY")


def test_a_long_label_is_cut_and_the_quantity_is_not():
    source = make_input()
    label = "very " * 20 + "long"
    explanation = make_explanation(source, target=label)

    dataset, _ = written(
        source, findings=(make_finding(label=label),), segments=(), explanations=(explanation,)
    )

    (name,) = (
        i.ConceptNameCodeSequence[0].CodeMeaning
        for i in items(dataset)
        if i.ConceptNameCodeSequence[0].CodeValue == "122157"
    )
    assert len(name) <= 64
    assert name.endswith("... probability")
