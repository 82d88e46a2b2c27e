"""A MONAI bundle as it is published: verified, understood, run, or refused by name."""

import json
import shutil

import numpy as np
import pytest
import torch
import yaml

from ai.errors import ModelUnavailableError, UnsuitableInputError
from ai.model import IntendedUse
from ai.models.monai_bundle import load
from dicom_io.codes import Code
from tests.build_bundles import (
    CLASSIFIER,
    ORIENTATIONS,
    SEGMENTER,
    bright_voxel_weights,
    make_affine,
    make_volume,
    settings_for,
    write_bundle,
)

SOFTMAX = {"_target_": "Activationsd", "softmax": True}
SIGMOID = {"_target_": "Activationsd", "sigmoid": True}
LARGEST = {"_target_": "AsDiscreted", "argmax": True}
THRESHOLD = {"_target_": "AsDiscreted", "threshold": 0.5}


@pytest.fixture
def segmenter(tmp_path):
    return write_bundle(tmp_path / "bundle", SEGMENTER, bright_voxel_weights())


@pytest.fixture
def classifier(tmp_path):
    weights = {f"0.{name}": value for name, value in bright_voxel_weights().items()}
    channels = {"0": "Effusion", "1": "Nodule"}
    return write_bundle(tmp_path / "bundle", CLASSIFIER, weights, channels=channels)


def volume_with_bright_corner(orientation="axial", **changes):
    voxels = np.zeros((10, 12, 14), np.float32)
    voxels[7:9, 1:4, 2:5] = 1
    return make_volume(voxels, affine=make_affine(ORIENTATIONS[orientation]), **changes)


def post(*transforms):
    return {"_target_": "Compose", "transforms": [{"keys": "pred", **each} for each in transforms]}


@pytest.mark.parametrize("orientation", sorted(ORIENTATIONS))
def test_mask_lies_on_the_source_grid_where_the_image_is_bright(segmenter, orientation):
    model = load(settings_for(segmenter))
    volume = volume_with_bright_corner(orientation)

    prediction = model.predict(model.prepare(volume))

    assert np.array_equal(prediction.masks["bright"], volume.voxels[0] > 0.5)
    assert prediction.output.shape == (1, 2, 40, 40, 40)
    assert not prediction.probabilities


def test_classifier_gives_each_label_its_probability(classifier):
    model = load(settings_for(classifier))
    volume = make_volume(np.ones((4, 5, 6), np.float32), affine=make_affine(ORIENTATIONS["axial"]))

    prediction = model.predict(model.prepare(volume))

    assert prediction.probabilities == {
        "Effusion": pytest.approx(0.5),
        "Nodule": pytest.approx(1 / (1 + np.exp(-10))),
    }
    assert not prediction.masks


def test_temperature_calibrates_the_probability_and_not_the_logit(classifier):
    model = load(settings_for(classifier, temperature=5.0))
    volume = make_volume(np.ones((4, 5, 6), np.float32), affine=make_affine(ORIENTATIONS["axial"]))

    prediction = model.predict(model.prepare(volume))

    assert prediction.probabilities["Nodule"] == pytest.approx(1 / (1 + np.exp(-2)))
    assert float(prediction.output[0, 1]) == pytest.approx(10)


def test_classifier_that_takes_the_largest_has_probabilities_that_sum_to_one(tmp_path):
    weights = {f"0.{name}": value for name, value in bright_voxel_weights().items()}
    steps = post({"_target_": "AsDiscreted", "argmax": True, "to_onehot": 2})
    channels = {0: "In body", 1: "Out of body"}
    folder = write_bundle(
        tmp_path / "b", CLASSIFIER, weights, channels=channels, changes={"postprocessing": steps}
    )
    model = load(settings_for(folder))

    prediction = model.predict(model.prepare(volume_with_bright_corner()))

    assert sum(prediction.probabilities.values()) == pytest.approx(1)


def test_classifier_without_any_activation_is_refused(tmp_path):
    weights = {f"0.{name}": value for name, value in bright_voxel_weights().items()}
    folder = write_bundle(tmp_path / "b", CLASSIFIER, weights, changes={"postprocessing": post()})
    model = load(settings_for(folder))

    with pytest.raises(ModelUnavailableError, match="not a probability"):
        model.predict(model.prepare(volume_with_bright_corner()))


SOFTMAX_INSIDE = (
    "$torch.nn.Sequential(torch.nn.Conv3d(1, 2, 1), torch.nn.AdaptiveAvgPool3d(1), "
    "torch.nn.Flatten(), torch.nn.Softmax(dim=1))"
)


def dim_weights():
    """Logits 0.2 and 0.9 for an empty image: numbers that could pass for probabilities."""
    return {"0.weight": torch.zeros(2, 1, 1, 1, 1), "0.bias": torch.tensor([0.2, 0.9])}


def test_small_logits_are_not_taken_for_probabilities(tmp_path):
    folder = write_bundle(
        tmp_path / "b", CLASSIFIER, dim_weights(), changes={"postprocessing": post()}
    )
    model = load(settings_for(folder))

    with pytest.raises(ModelUnavailableError, match="no activation"):
        model.predict(model.prepare(volume_with_bright_corner()))


def test_network_that_ends_in_an_activation_gives_probabilities(tmp_path):
    changes = {"postprocessing": post(), "network_def": SOFTMAX_INSIDE}
    folder = write_bundle(tmp_path / "b", CLASSIFIER, dim_weights(), changes=changes)
    model = load(settings_for(folder))

    prediction = model.predict(model.prepare(volume_with_bright_corner()))

    assert prediction.probabilities["bright"] == pytest.approx(1 / (1 + np.exp(-0.7)))


def test_temperature_of_a_network_that_gives_probabilities_is_refused(tmp_path):
    changes = {"postprocessing": post(), "network_def": SOFTMAX_INSIDE}
    folder = write_bundle(tmp_path / "b", CLASSIFIER, dim_weights(), changes=changes)
    model = load(settings_for(folder, temperature=2.0))

    with pytest.raises(ModelUnavailableError, match="temperature"):
        model.predict(model.prepare(volume_with_bright_corner()))


INVERT = {
    "_target_": "Invertd", "transform": "@preprocessing", "orig_keys": "image",
}  # fmt: skip


@pytest.mark.parametrize("steps", [[INVERT, SIGMOID, THRESHOLD], [SOFTMAX, INVERT, LARGEST]])
def test_nothing_is_outlined_where_the_network_has_not_looked(tmp_path, steps):
    crop = {"_target_": "SpatialCropd", "keys": "image", "roi_start": [0, 0, 0], "roi_end": [7] * 3}
    folder = write_bundle(
        tmp_path / "b",
        SEGMENTER,
        bright_voxel_weights(),
        channels={"0": "dark", "1": "bright"},
        changes={
            "preprocessing": {"_target_": "Compose", "transforms": [crop]},
            "postprocessing": post(*steps),
        },
    )
    model = load(settings_for(folder))

    masks = model.predict(model.prepare(volume_with_bright_corner())).masks

    for mask in masks.values():
        assert not mask[7:].any()
        assert not mask[:, 7:].any()
        assert not mask[:, :, 7:].any()
    assert masks["dark"][:7, :7, :7].any()


def test_card_says_who_the_model_is(segmenter):
    settings = settings_for(segmenter)

    card = load(settings).card

    assert (card.name, card.version, card.manufacturer) == ("bright", "0.3.1", "the tests")
    assert card.weights_sha256 == settings.sha256["models/model.pt"]
    assert card.intended_use == "tests only"


def test_bundle_in_yaml_split_over_two_files_is_the_same_bundle(tmp_path, segmenter):
    split = tmp_path / "split"
    shutil.copytree(segmenter, split)
    config = json.loads((split / "configs" / "inference.json").read_text())
    network = {name: config.pop(name) for name in ("network_def", "network", "imports")}
    (split / "configs" / "inference.json").unlink()
    (split / "configs" / "common.yaml").write_text(yaml.safe_dump(network))
    (split / "configs" / "inference.yaml").write_text(yaml.safe_dump(config))
    volume = volume_with_bright_corner()

    model = load(settings_for(split))

    masks = model.predict(model.prepare(volume)).masks
    assert np.array_equal(masks["bright"], volume.voxels[0] > 0.5)


def test_checkpoint_loader_says_where_the_weights_are(tmp_path):
    handler = {
        "_target_": "CheckpointLoader",
        "load_path": "$@model_dir + '/best.pt'",
        "load_dict": {"net": "@network_def", "optimizer": "$None"},
    }
    checkpoint = {"net": {f"module.{k}": v for k, v in bright_voxel_weights().items()}, "epoch": 7}
    changes = {
        "model_dir": "$@bundle_root + '/models'",
        "handlers": [],
        "initialize": {"checkpointloader": handler},
    }
    folder = write_bundle(tmp_path / "b", SEGMENTER, checkpoint, changes=changes)
    (folder / "models" / "model.pt").rename(folder / "models" / "best.pt")

    model = load(settings_for(folder))

    assert torch.equal(model.network.bias, torch.tensor([0.0, -10.0]))


def test_sliding_windows_are_honored(tmp_path):
    inferer = {"_target_": "SlidingWindowInferer", "roi_size": [16, 16, 16], "overlap": 0.25}
    folder = write_bundle(
        tmp_path / "b", SEGMENTER, bright_voxel_weights(), changes={"inferer": inferer}
    )
    model = load(settings_for(folder))
    volume = volume_with_bright_corner()

    prepared = model.prepare(volume)
    masks = model.predict(prepared).masks

    assert prepared.window == (16, 16, 16)
    assert np.array_equal(masks["bright"], volume.voxels[0] > 0.5)


def test_unknown_inferer_is_refused(tmp_path):
    changes = {"inferer": {"_target_": "SaliencyInferer", "cam_name": "CAM", "target_layers": "x"}}
    folder = write_bundle(tmp_path / "b", SEGMENTER, bright_voxel_weights(), changes=changes)

    with pytest.raises(ModelUnavailableError, match="SaliencyInferer"):
        load(settings_for(folder))


ONE_HOT = {"_target_": "AsDiscreted", "argmax": True, "to_onehot": 2}
BIGGEST = {"_target_": "KeepLargestConnectedComponentd", "applied_labels": [1]}


@pytest.mark.parametrize(
    "steps",
    [
        [SOFTMAX, LARGEST],
        [SOFTMAX, ONE_HOT],
        [SOFTMAX, LARGEST, BIGGEST],
        [SIGMOID, THRESHOLD],
        [LARGEST],
    ],
)
def test_post_processing_without_inversion_comes_back_by_the_affines(tmp_path, steps):
    folder = write_bundle(
        tmp_path / "b", SEGMENTER, bright_voxel_weights(), changes={"postprocessing": post(*steps)}
    )
    model = load(settings_for(folder))
    volume = volume_with_bright_corner("sagittal")

    masks = model.predict(model.prepare(volume)).masks

    assert np.array_equal(masks["bright"], volume.voxels[0] > 0.5)


def test_channels_merged_by_an_unknown_step_are_refused(tmp_path):
    merge = {"_target_": "Lambdad", "func": "$lambda x: x[:1] * 4"}
    folder = write_bundle(
        tmp_path / "b",
        SEGMENTER,
        bright_voxel_weights(),
        changes={"postprocessing": post(SIGMOID, THRESHOLD, merge)},
    )
    model = load(settings_for(folder))

    with pytest.raises(ModelUnavailableError, match="2 channels into 1"):
        model.predict(model.prepare(volume_with_bright_corner()))


@pytest.mark.parametrize(
    ("channels", "names"),
    [
        ({"0": "Background", "1": "Spleen"}, {1: "Spleen"}),
        ({0: "backgroud", 1: "  white   matter "}, {1: "white matter"}),
        (["Unknown", "Putamen"], {1: "Putamen"}),
        ({"0": "lesion", "1": "edema"}, {0: "lesion", 1: "edema"}),
    ],
)
def test_labels_come_from_the_channel_definition_as_published(tmp_path, channels, names):
    folder = write_bundle(tmp_path / "b", SEGMENTER, bright_voxel_weights(), channels=channels)

    labels = load(settings_for(folder)).labels

    assert {label.channel: label.name for label in labels} == names


def test_configured_labels_replace_the_bundles(segmenter):
    spleen = Code("78961009", "SCT", "Spleen")

    (label,) = load(settings_for(segmenter, labels={1: spleen})).labels

    assert (label.channel, label.name, label.concept) == (1, "Spleen", spleen)


def test_channels_of_one_concept_keep_the_bundles_names(tmp_path):
    channels = {"0": "left kidney", "1": "right kidney"}
    folder = write_bundle(tmp_path / "b", SEGMENTER, bright_voxel_weights(), channels=channels)
    kidney = Code("64033007", "SCT", "Kidney")

    labels = load(settings_for(folder, labels={0: kidney, 1: kidney})).labels

    assert [(label.name, label.concept) for label in labels] == [
        ("left kidney", kidney),
        ("right kidney", kidney),
    ]


@pytest.mark.parametrize("channels", [{"0": "x", "1": "x"}, {"0": "background"}, {"a": "x"}])
def test_channels_that_cannot_be_told_apart_are_refused(tmp_path, channels):
    folder = write_bundle(tmp_path / "b", SEGMENTER, bright_voxel_weights(), channels=channels)

    with pytest.raises(ModelUnavailableError, match=r"model\.labels"):
        load(settings_for(folder))


def test_label_without_an_output_channel_is_refused(segmenter):
    model = load(settings_for(segmenter, labels={5: Code("1", "99X", "Nothing")}))

    with pytest.raises(ModelUnavailableError, match=r"Nothing \(5\)"):
        model.predict(model.prepare(volume_with_bright_corner()))


@pytest.mark.parametrize(
    ("use", "changes", "criterion"),
    [
        ({"modality": ("CT",)}, {}, "modality MR"),
        ({"body_part": ("HEAD",)}, {"body_part": "CHEST"}, "body part CHEST"),
        ({"age_years": (18, 99)}, {"age_years": 4.0}, "age 4 years"),
        ({"age_years": (18, 99)}, {}, "age unknown"),
        ({"spacing_mm": (0.5, 0.9)}, {}, "spacing 1 x 1 x 1 mm"),
    ],
)
def test_image_outside_the_intended_use_is_refused(segmenter, use, changes, criterion):
    model = load(settings_for(segmenter, intended_use=IntendedUse(**use)))

    with pytest.raises(UnsuitableInputError, match=criterion):
        model.prepare(volume_with_bright_corner(**changes))


def test_image_that_does_not_say_its_body_part_passes(segmenter):
    use = IntendedUse(modality=("MR",), body_part=("HEAD",), spacing_mm=(1.0, 1.0))
    model = load(settings_for(segmenter, intended_use=use))

    assert model.prepare(volume_with_bright_corner()).tensor.shape == (1, 1, 40, 40, 40)


def test_other_number_of_channels_is_refused(segmenter):
    model = load(settings_for(segmenter))
    volume = make_volume(
        np.ones((3, 4, 4, 4), np.float32), affine=make_affine(ORIENTATIONS["axial"])
    )

    with pytest.raises(UnsuitableInputError, match=r"3 channel\(s\), the model takes 1"):
        model.prepare(volume)
