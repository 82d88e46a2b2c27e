"""The overlay series: right pixels at the right place, with a legend beside the anatomy."""

import subprocess
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from dicom_io.analysis import Heatmap, Verdict
from dicom_io.encode import relevance_bands, report, secondary_capture
from dicom_io.encode.overlay_legend import overlay_legend
from dicom_io.encode.secondary_capture import MOST_SLICES, encode
from dicom_io.errors import EncodingError
from dicom_io.legend import draw_canvas, layout_of
from dicom_io.paint import displayed
from tests.build_analysis import (
    AXIAL,
    CORONAL,
    OBLIQUE,
    SAGITTAL,
    left_marker,
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
    make_segment,
)
from tests.peers import require


def encoded(source, *, origin=None, **changes):
    analysis = make_analysis(source, **changes)
    return encode(analysis, source, origin or make_origin(), ())


def pixels(dataset):
    return np.frombuffer(dataset.PixelData, np.uint8)[: dataset.Rows * dataset.Columns * 3].reshape(
        dataset.Rows, dataset.Columns, 3
    )


def painted_affine(dataset):
    """From (row, column) of the capture to LPS mm, as a viewer computes it (C.7.6.2.1.1)."""
    orientation = np.array(dataset.ImageOrientationPatient, float)
    spacing = np.array(dataset.PixelSpacing, float)
    position = np.array(dataset.ImagePositionPatient, float)
    along_row, along_column = orientation[:3] * spacing[1], orientation[3:] * spacing[0]
    return lambda row, column: position + along_column * row + along_row * column


def colored(dataset, layout):
    """Centroid (row, column) of what is colored within the anatomy."""
    image = pixels(dataset)[:, : layout.panel_left].astype(int)
    return np.argwhere(image.max(axis=2) - image.min(axis=2) > 30).mean(axis=0)


@pytest.mark.parametrize("orientation", [AXIAL, SAGITTAL, CORONAL, OBLIQUE])
def test_heat_lies_where_the_marker_lies_in_the_patient(orientation):
    source = make_input(orientation, "MR")
    marker = left_marker(source.volume.grid_shape, source.volume.affine)
    expected = source.volume.affine @ [*np.argwhere(marker).mean(axis=0), 1.0]
    layout = layout_of(*source.volume.grid_shape[1:])

    objects = encoded(source, segments=())
    strongest = max(objects, key=lambda d: int((np.ptp(pixels(d)[:, :560], axis=2) > 30).sum()))
    place = painted_affine(strongest)(*colored(strongest, layout))

    assert np.linalg.norm(place - expected[:3]) < 3.0


def test_capture_keeps_frame_of_reference_position_and_orientation():
    source = make_input(OBLIQUE, "MR")
    affine = source.volume.affine
    layout = layout_of(*source.volume.grid_shape[1:])

    for dataset in encoded(source):
        reference = dataset.SourceImageSequence[0].ReferencedSOPInstanceUID
        index = [f.sop_instance_uid for f in source.volume.frames].index(reference)
        first = layout.margin + (layout.factor - 1) / 2
        np.testing.assert_allclose(
            painted_affine(dataset)(first, first), (affine @ (index, 0, 0, 1))[:3], atol=1e-6
        )
        assert dataset.FrameOfReferenceUID == "1.2.3.9"


def test_anatomy_is_not_covered_by_the_legend_and_not_changed_where_nothing_is_painted():
    source = make_input()
    layout = layout_of(*source.volume.grid_shape[1:])
    silent = Heatmap(relevance=np.zeros((1, *source.volume.grid_shape), np.float32))
    analysis = {"segments": (), "explanations": (make_explanation(source, heatmap=silent),)}

    (dataset,) = encoded(source, **analysis)

    anatomy = pixels(dataset)[layout.margin :, layout.margin :][
        : layout.image_rows, : layout.image_columns
    ]
    middle = source.volume.voxels[0, 3, 20, 24]
    assert anatomy[20 * layout.factor + 5, 24 * layout.factor + 5] == pytest.approx(
        [round((middle + 100) / 400 * 255)] * 3, abs=2
    )
    assert (anatomy.max(axis=2) == anatomy.min(axis=2)).all()


@pytest.mark.parametrize(
    ("make", "letters"),
    [
        (lambda: make_input(AXIAL), ["L", "P"]),
        (lambda: make_input(SAGITTAL, "MR"), ["P", "F"]),
        (lambda: make_input(CORONAL, "MR"), ["L", "F"]),
        (make_projection, ["L", "F"]),
    ],
)
def test_orientation_letters_follow_the_patient(make, letters):
    dataset = encoded(make())[0]

    assert list(dataset.PatientOrientation) == letters


def test_oblique_letters_name_the_second_direction():
    dataset = encoded(make_input(OBLIQUE, "MR"))[0]

    assert [str(value) for value in dataset.PatientOrientation] == ["L", "PF"]


def test_series_holds_the_slices_between_the_first_and_last_painted_one():
    source = make_input(shape=(20, 40, 48))
    mask = np.zeros(source.volume.grid_shape, bool)
    mask[8:11, 5:9, 5:9] = True
    silent = Heatmap(relevance=np.zeros((1, *source.volume.grid_shape), np.float32))

    objects = encoded(
        source,
        segments=(replace(make_segment(source), mask=mask),),
        explanations=(make_explanation(source, heatmap=silent),),
    )

    shown = [int(d.SourceImageSequence[0].ReferencedSOPInstanceUID.split(".")[-1]) for d in objects]
    assert shown == [8, 9, 10, 11, 12]
    assert [d.InstanceNumber for d in objects] == [1, 2, 3, 4, 5]


def test_very_long_series_are_thinned_evenly_and_keep_the_key_slice():
    source = make_input(shape=(300, 8, 8))
    relevance = np.ones((1, *source.volume.grid_shape), np.float32)
    relevance[:, 151] = 2.0
    explanation = make_explanation(source, heatmap=Heatmap(relevance=relevance))

    objects = encoded(source, segments=(), explanations=(explanation,))

    shown = [int(d.SourceImageSequence[0].ReferencedSOPInstanceUID.split(".")[-1]) for d in objects]
    assert len(shown) <= MOST_SLICES
    assert set(np.diff(shown)) == {3}
    assert 152 in shown


def test_multi_frame_source_is_referred_to_by_frame_number():
    source = make_enhanced_input()

    objects = encoded(source)

    numbers = [d.SourceImageSequence[0].ReferencedFrameNumber for d in objects]
    assert numbers == sorted(numbers, reverse=True)


def test_withheld_heatmap_is_not_painted_but_outlines_are():
    source = make_input()
    withheld = make_explanation(source, Verdict.WITHHELD)

    objects = encoded(source, explanations=(withheld,))

    assert {d.SeriesDescription for d in objects} == {"AI outlines phantom"}
    plain = encoded(source, explanations=())
    assert [d.PixelData for d in objects] == [d.PixelData for d in plain]


def test_outlines_alone_say_that_nothing_is_explained():
    analysis = make_analysis(make_input(), explanations=(), failures=(make_failure(),))

    legend = overlay_legend(analysis, None, None, analysis.segments, origin=make_origin())

    said = [line.text for paragraph in legend.body for line in paragraph]
    assert "NOT EXPLAINED: Grad-CAM could not be made, the report says why" in said
    assert "AI evidence map" not in [line.text for line in legend.head]


def test_the_verdict_stands_before_a_list_of_outlines_that_may_be_too_long():
    source = make_input()
    segments = tuple(make_segment(source, label=f"structure {number}") for number in range(150))
    labelled = make_explanation(source, Verdict.LABELLED)
    analysis = make_analysis(source, segments=segments, explanations=(labelled,))

    legend = overlay_legend(analysis, labelled, None, segments, origin=make_origin())

    said = [line.text for paragraph in legend.body for line in paragraph]
    assert said.index("Explanation grade D") < said.index("structure 0")
    assert said.index("Synthetic-lesion phantom: not trained on patients.") < said.index(
        "structure 0"
    )


def test_nothing_to_paint_makes_no_series():
    source = make_input()

    assert encoded(source, explanations=(), segments=()) == ()


def test_failed_check_is_in_the_series_description():
    source = make_input()
    labelled = make_explanation(source, Verdict.LABELLED)

    assert "A CHECK FAILED" in encoded(source, explanations=(labelled,))[0].SeriesDescription


@pytest.mark.parametrize("encoder", [encode, relevance_bands.encode])
def test_failed_check_of_a_structure_with_a_long_name_is_in_the_series_description(encoder):
    source = make_input()
    name = "left anterior descending coronary artery, proximal third, calcified"
    labelled = make_explanation(source, Verdict.LABELLED, target=name, method="x" * 40)
    analysis = make_analysis(source, explanations=(labelled,))

    description = encoder(analysis, source, make_origin(), ())[0].SeriesDescription

    assert len(description) <= 64
    assert description.endswith(": A CHECK FAILED")
    assert "left ante" in description


def test_of_two_long_labels_both_are_in_the_series_description():
    source = make_input()
    weighed = make_explanation(
        source,
        Verdict.LABELLED,
        target="left anterior descending coronary artery",
        against="right posterior interventricular artery",
    )

    (description,) = {d.SeriesDescription for d in encoded(source, explanations=(weighed,))}

    assert len(description) <= 64
    assert "left ante" in description
    assert " vs right po" in description
    assert description.endswith(", LayerCAM: A CHECK FAILED")


def test_photograph_keeps_its_colors_and_claims_no_place():
    source = make_photograph()

    (dataset,) = encoded(source)

    layout = layout_of(*source.volume.grid_shape[1:])
    corner = pixels(dataset)[layout.image_rows + layout.margin - 3, layout.margin + 2]
    assert corner == pytest.approx([40, 120, 220], abs=4)
    assert "ImagePositionPatient" not in dataset
    assert "FrameOfReferenceUID" not in dataset


@pytest.mark.parametrize("stated", ["L", "LF", ["L", "F", "A"], [""]])
def test_orientation_that_is_not_two_directions_claims_no_side(stated):
    source = make_projection()
    source.headers[0].PatientOrientation = stated

    (dataset, *_) = encoded(source)

    assert not dataset.PatientOrientation


def test_palette_of_sixteen_bits_is_not_shown_white():
    source = make_photograph()
    source.headers[0].PhotometricInterpretation = "PALETTE COLOR"
    source.headers[0].BitsStored = 8
    deep = replace(source.volume, voxels=source.volume.voxels * np.float32(257.0))

    (dataset,) = encoded(replace(source, volume=deep))

    layout = layout_of(*source.volume.grid_shape[1:])
    corner = pixels(dataset)[layout.image_rows + layout.margin - 3, layout.margin + 2]
    assert corner == pytest.approx([40, 120, 220], abs=4)


def test_lossy_source_stays_lossy():
    source = make_input()
    for header in source.headers:
        header.LossyImageCompression = "01"
        header.LossyImageCompressionRatio = 12
        header.LossyImageCompressionMethod = "ISO_10918_1"

    for dataset in encoded(source):
        assert dataset.LossyImageCompression == "01"
        assert dataset.LossyImageCompressionRatio == 12


def words(legend):
    body = [line for section in legend.body for line in section]
    return " ".join(line.text for line in (*legend.head, *legend.scale, *body))


def legend_of(source, explanation, mode="research"):
    analysis = make_analysis(source, explanations=(explanation,))
    return overlay_legend(
        analysis,
        explanation,
        displayed(explanation.heatmap),
        analysis.segments,
        origin=make_origin(mode),
    )


def test_legend_says_method_target_scale_measures_and_model():
    source = make_input()

    said = words(legend_of(source, make_explanation(source)))

    for expected in (
        "evidence for synthetic lesion",
        "method LayerCAM",
        "1 % of the whole image's positive relevance lies above",
        "comprehensiveness 0.31",
        "Explanation grade B passed its checks, 2 of 2",
        "not for diagnostic use",
        "model phantom 1.0",
        "not trained on patients",
        "lesion",
        "PRESENT probability 87.0 % (cut-off 50.0 %)",
    ):
        assert expected in said


def test_legend_says_against_what_the_target_was_weighed():
    source = make_input()

    said = words(legend_of(source, make_explanation(source, against="effusion")))

    assert "evidence for synthetic lesion PRESENT probability 87.0 % (cut-off 50.0 %)" in said
    assert "rather than effusion method LayerCAM" in said


def test_legend_says_the_baseline():
    source = make_input()
    explanation = make_explanation(source, layer=None, baseline="blur, 16 steps")

    assert "baseline blur, 16 steps" in words(legend_of(source, explanation))


def test_legend_says_why_a_check_failed():
    source = make_input()
    explanation = make_explanation(source, Verdict.LABELLED)

    said = words(legend_of(source, explanation))

    assert "A CHECK FAILED" in said
    assert explanation.reasons[0] in said


def test_clinical_mode_carries_no_research_sentence():
    source = make_input()

    assert "not for diagnostic" not in words(
        legend_of(source, make_explanation(source), "clinical")
    )


@pytest.mark.parametrize("size", [(16, 16), (100, 512), (512, 512), (3000, 2000)])
def test_canvas_leaves_room_for_a_long_legend(size):
    source = make_input()
    explanation = make_explanation(
        source,
        Verdict.LABELLED,
        reasons=("a reason that takes many words to be explained to a reader",) * 3,
        layer="encoder.layers.3.blocks.very_long_name_without_any_space.attention",
    )
    layout = layout_of(*size)

    canvas = draw_canvas(layout, legend_of(source, explanation), ("R", "L", "A", "P"))

    assert canvas.shape == (layout.rows, layout.columns, 3)
    image = canvas[
        layout.margin : layout.margin + layout.image_rows,
        layout.margin : layout.margin + layout.image_columns,
    ]
    assert not image.any()
    assert max(layout.image_rows, layout.image_columns) >= 512


def test_long_model_notice_is_still_complete():
    source = make_input()
    analysis = make_analysis(source, model=make_card(notice="word " * 30))

    objects = encode(analysis, source, make_origin(), ())

    assert objects


@pytest.mark.peers
def test_dcmtk_renders_the_capture(tmp_path):
    dcm2pnm = require("/usr/bin/dcm2pnm", "install Debian's dcmtk")
    dataset = encoded(make_input())[2]
    dataset.save_as(tmp_path / "sc.dcm", enforce_file_format=True)

    subprocess.run(
        [dcm2pnm, "--write-png", tmp_path / "sc.dcm", tmp_path / "sc.png"],
        check=True,
        capture_output=True,
    )

    with Image.open(tmp_path / "sc.png") as image:
        np.testing.assert_array_equal(np.asarray(image.convert("RGB")), pixels(dataset))


@pytest.mark.parametrize("encoder", [secondary_capture, relevance_bands, report])
def test_heatmap_that_is_not_finite_is_refused_unless_withheld(encoder):
    source = make_input()
    relevance = np.zeros((1, *source.volume.grid_shape), np.float32)
    relevance[0, 1, 2, 3] = np.nan
    broken = make_explanation(source, heatmap=Heatmap(relevance=relevance))
    withheld = replace(broken, verdict=Verdict.WITHHELD)

    with pytest.raises(EncodingError, match="1 values that are not finite"):
        encoder.encode(make_analysis(source, explanations=(broken,)), source, make_origin(), ())
    encoder.encode(make_analysis(source, explanations=(withheld,)), source, make_origin(), ())


def test_heatmap_of_another_grid_is_refused():
    source = make_input()
    wrong = make_explanation(source, heatmap=Heatmap(relevance=np.ones((1, 6, 40, 47), "f4")))

    with pytest.raises(EncodingError, match=r"shape \(1, 6, 40, 47\).*1\.2\.3\.5"):
        encoded(source, explanations=(wrong,))


def test_probability_outside_its_range_is_refused():
    source = make_input()
    finding = replace(make_finding(), probability=float("nan"))

    with pytest.raises(EncodingError, match="probability nan, expected 0 to 1"):
        report.encode(make_analysis(source, findings=(finding,)), source, make_origin(), ())
