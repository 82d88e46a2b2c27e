"""Cards of the models that are at hand: the phantom's, and a published network on a real head."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from ai.card.records import from_line
from benchmarks.known_head import head_volume, write_label_map
from benchmarks.known_phantoms import FIRST, LABEL, write_known_phantoms, write_series
from node.commands.validate import Wanted, model_settings, validate
from node.config import built_in_models, embedded_config
from tests.build_bundles import HEAD, without_air
from tests.peers import require_shared

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


def test_the_phantoms_card_recommends_what_points_at_the_lesion(tmp_path):
    torch.set_num_threads(1)
    write_known_phantoms(tmp_path, range(FIRST, FIRST + 8))
    asked = Wanted(
        model=built_in_models()["phantom"],
        data=tmp_path / "data",
        truth=tmp_path / "truth",
        out=tmp_path / "card",
        explainers=("layer_cam",),
        quick=True,
    )

    card = validate(asked)
    lines = (tmp_path / "card" / "cases.jsonl").read_text().count("\n")
    again = validate(asked)

    figures = card.figures("layer_cam")
    known = card.data.known[LABEL]
    assert card.choice.name == "layer_cam"
    assert figures.measures["pointing"].estimate >= 0.9
    assert figures.measures["rank"].estimate >= 0.5
    assert sum(known) == 8
    assert min(known) >= 3
    assert card.diagnosis.labels[0].area.estimate >= 0.9
    assert lines == (tmp_path / "card" / "cases.jsonl").read_text().count("\n") == 8
    assert again.explainers == card.explainers


def white_matter_by_brightness(image):
    """White matter as a person without any network would mark it: bright, in one large piece."""
    bright = (image >= 110) & (image <= 140)
    pieces, _ = ndimage.label(ndimage.binary_opening(bright, iterations=2))
    largest = pieces == np.bincount(pieces.ravel())[1:].argmax() + 1
    return ndimage.binary_dilation(largest) & bright


def test_the_card_of_a_segmenter_holds_outline_and_map_against_brightness(tmp_path):
    torch.set_num_threads(1)
    bundle = without_air(require_shared("data/brain_meshnet3"), tmp_path / "bundle", HEAD)
    volume = head_volume(require_shared("data/t1_head.nii.gz"))
    white = white_matter_by_brightness(volume.voxels[0])
    write_series(volume, tmp_path / "data" / "head", "head")
    write_label_map(white.astype(np.uint8), volume, tmp_path / "truth" / "head.nii.gz")

    card = validate(
        Wanted(
            model=model_settings(str(bundle), embedded_config(tmp_path), trusted=True),
            data=tmp_path / "data",
            truth=tmp_path / "truth",
            out=tmp_path / "card",
            explainers=("layer_cam:depth=0.75",),
            quick=True,
        )
    )

    (line,) = (tmp_path / "card" / "cases.jsonl").read_text().splitlines()
    record = from_line(line)
    mass = {each.name: each.measures["mass"] for each in record.maps}
    assert card.data.failures == {}
    assert not card.is_classifier
    assert card.dice["White Matter"].estimate > 0.7
    assert record.target == "White Matter"
    assert mass["layer_cam:depth=0.75"] > 2 * mass["random"]
    assert any("localization: the place" in each for each in card.unmeasured)
