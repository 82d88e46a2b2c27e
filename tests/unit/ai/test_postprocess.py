"""What is made of an output, beside the steps that the bundle itself would take."""

import numpy as np
import pytest
import torch
from monai.transforms import AsDiscreted

from ai.model import Label
from ai.models.postprocess import Postprocessing, source_masks
from ai.prepare import labels_to_source_grid, prepare
from dicom_io.codes import code_for_label
from tests.build_bundles import ORIENTATIONS, make_affine, make_volume

LABELS = tuple(
    Label(channel=channel, name=name, concept=code_for_label(name))
    for channel, name in enumerate(("background", "White matter", "Gray matter"))
)


@pytest.mark.parametrize("options", [{}, {"to_onehot": 3}])
def test_the_largest_channel_is_the_one_that_monai_takes_ties_too(options):
    step = AsDiscreted(keys="pred", argmax=True, **options)
    affine = make_affine(ORIENTATIONS["axial"])
    prepared = prepare(make_volume(np.zeros((7, 6, 5), np.float32), affine=affine), ())
    output = torch.randint(3, (1, 3, 5, 6, 7), generator=torch.Generator().manual_seed(0)).float()
    taken = labels_to_source_grid(step({"pred": output[0]})["pred"].as_tensor(), prepared)
    expected = {
        label.name: taken[label.channel] > 0.5 if options else taken[0] == label.channel
        for label in LABELS
    }

    masks = source_masks(output, prepared, Postprocessing(before=(step,)), LABELS)

    assert set(masks) == set(expected)
    for name, mask in masks.items():
        assert np.array_equal(mask, expected[name].numpy())
