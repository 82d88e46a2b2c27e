"""The foot of a capture: which slice, where, and whether it is the one to look at first."""

import numpy as np

from dicom_io.analysis import Heatmap
from dicom_io.encode.secondary_capture import encode
from dicom_io.legend import layout_of
from dicom_io.paint import heat_table, heated, heated_by, key_slice
from tests.build_analysis import make_analysis, make_explanation, make_input, make_origin


def foot_line(dataset, number):
    """Pixels of one of the three lines at the foot of the panel."""
    layout = layout_of(40, 48)
    top = layout.rows - round(58 * layout.scale) + round(17 * number * layout.scale)
    return dataset.pixel_array[top : top + round(17 * layout.scale), layout.panel_left :]


def test_only_the_slice_with_most_evidence_says_that_it_is():
    source = make_input()
    relevance = np.zeros((1, *source.volume.grid_shape), np.float32)
    relevance[0, 2:5, 10:20, 10:20] = 0.5
    relevance[0, 3, 10:20, 10:20] = 1.0
    explanation = make_explanation(source, heatmap=Heatmap(relevance=relevance))
    analysis = make_analysis(source, segments=(), explanations=(explanation,))

    series = encode(analysis, source, make_origin(), ())

    said = [
        dataset.SourceImageSequence[0].ReferencedSOPInstanceUID
        for dataset in series
        if foot_line(dataset, 2).any()
    ]
    assert said == [source.volume.frames[key_slice(explanation.heatmap)].sop_instance_uid]
    assert all(foot_line(dataset, 0).any() for dataset in series)
    assert len({foot_line(dataset, 0).tobytes() for dataset in series}) == len(series)
    assert len({foot_line(dataset, 1).tobytes() for dataset in series}) == 1


def test_looked_up_colors_are_the_blended_ones():
    gray = np.tile(np.arange(256, dtype=np.uint8), (256, 1))
    levels = gray.T.copy()

    looked_up = heated_by(heat_table(), gray, levels)
    blended = heated(np.repeat(gray[..., None], 3, axis=2), levels)

    assert np.abs(looked_up.astype(int) - blended.astype(int)).max() <= 1
    assert (looked_up[levels < 25] == gray[levels < 25][:, None]).all()
