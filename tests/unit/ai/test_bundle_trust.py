"""What of a bundle is trusted, read and run, and what is refused by name."""

import shutil

import pytest
import torch

from ai.errors import ModelUnavailableError
from ai.model import IntendedUse
from ai.models.monai_bundle import describe_bundle, load
from tests.build_bundles import (
    SEGMENTER,
    bright_voxel_weights,
    settings_for,
    write_bundle,
)


@pytest.fixture
def segmenter(tmp_path):
    return write_bundle(tmp_path / "bundle", SEGMENTER, bright_voxel_weights())


def test_untrusted_bundle_is_not_run(segmenter):
    with pytest.raises(ModelUnavailableError, match="trusted = true"):
        load(settings_for(segmenter, trusted=False))


def test_each_kind_of_tampering_is_named_with_its_file(segmenter):
    settings = settings_for(segmenter)
    (segmenter / "models" / "model.pt").write_bytes(b"other weights")
    (segmenter / "configs" / "metadata.json").unlink()
    (segmenter / "configs" / "common.json").write_text("{}")

    with pytest.raises(ModelUnavailableError) as caught:
        load(settings)

    message = str(caught.value)
    assert "models/model.pt has sha256" in message
    assert "configs/metadata.json is missing" in message
    assert "configs/common.json is not listed" in message
    assert "pellucid models add" in message


def test_linked_folder_is_refused_because_no_hash_covers_it(tmp_path, segmenter):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    settings = settings_for(segmenter)
    (segmenter / "scripts").symlink_to(elsewhere, target_is_directory=True)
    (elsewhere / "__init__.py").write_text("raise SystemExit")

    with pytest.raises(ModelUnavailableError, match=r"scripts is a link to a folder"):
        load(settings)
    with pytest.raises(ModelUnavailableError, match=r"scripts is a link to a folder"):
        describe_bundle(segmenter)


def test_link_that_leads_nowhere_is_refused(segmenter):
    settings = settings_for(segmenter)
    (segmenter / "weights.pt").symlink_to(segmenter / "later.pt")

    with pytest.raises(ModelUnavailableError, match=r"weights\.pt is no file"):
        load(settings)


def test_missing_folder_is_named(tmp_path):
    with pytest.raises(ModelUnavailableError, match="no such folder"):
        load(settings_for(tmp_path).__class__(name="x", bundle=tmp_path / "x", trusted=True))


def test_two_configurations_of_one_name_are_ambiguous(segmenter):
    (segmenter / "configs" / "inference.yaml").write_text("{}")

    with pytest.raises(ModelUnavailableError, match="which one is meant"):
        load(settings_for(segmenter))


def test_weights_outside_the_bundle_are_refused(tmp_path):
    handler = {"_target_": "CheckpointLoader", "load_path": "/etc/model.pt", "load_dict": {}}
    folder = write_bundle(tmp_path / "b", SEGMENTER, {}, changes={"handlers": [handler]})

    with pytest.raises(ModelUnavailableError, match="outside of"):
        load(settings_for(folder))


def test_weights_of_another_network_are_refused(tmp_path):
    folder = write_bundle(tmp_path / "b", SEGMENTER, {"weight": torch.zeros(2, 1, 1, 1, 1)})

    with pytest.raises(ModelUnavailableError, match="bias"):
        load(settings_for(folder))


def test_checkpoint_that_would_run_code_is_refused(tmp_path, segmenter):
    torch.save({"state": shutil.rmtree}, segmenter / "models" / "model.pt")

    with pytest.raises(ModelUnavailableError, match="weights alone"):
        load(settings_for(segmenter))


def test_torchscript_is_refused_in_words(segmenter):
    models = segmenter / "models"
    (models / "model.pt").rename(models / "model.ts")

    with pytest.raises(ModelUnavailableError, match="TorchScript"):
        load(settings_for(segmenter))


def test_nothing_is_downloaded_as_pretrained(tmp_path):
    network = {
        "_target_": "scripts.net.make",
        "pretrained": True,
        "inner": "$dict(pretrained=True)",
    }
    folder = write_bundle(
        tmp_path / "b", SEGMENTER, bright_voxel_weights(), changes={"network_def": network}
    )
    (folder / "scripts").mkdir()
    (folder / "scripts" / "net.py").write_text(
        "import torch\n"
        "from scripts.parts import channels\n"
        "def make(pretrained, inner):\n"
        "    assert pretrained is False and inner == {'pretrained': False}\n"
        "    return torch.nn.Conv3d(1, channels, 1)\n"
    )
    (folder / "scripts" / "parts.py").write_text("channels = 2\n")

    model = load(settings_for(folder))

    assert isinstance(model.network, torch.nn.Conv3d)


def test_two_bundles_with_scripts_of_one_name_keep_their_own(tmp_path):
    biases = []
    for value in (1.0, 2.0):
        changes = {"network_def": "$make()", "imports": ["$from scripts.net import make"]}
        folder = write_bundle(
            tmp_path / str(value), SEGMENTER, bright_voxel_weights(), changes=changes
        )
        (folder / "scripts").mkdir()
        (folder / "scripts" / "__init__.py").write_text("")
        (folder / "scripts" / "net.py").write_text(
            "import torch\n"
            "def make():\n"
            "    net = torch.nn.Conv3d(1, 2, 1)\n"
            f"    net.made_by = {value}\n"
            "    return net\n"
        )
        biases.append(load(settings_for(folder)).network.made_by)

    assert biases == [1.0, 2.0]


def test_module_named_like_one_of_ours_is_refused(segmenter):
    (segmenter / "json.py").write_text("")

    with pytest.raises(ModelUnavailableError, match="json"):
        load(settings_for(segmenter))


def test_configuration_that_takes_in_another_file_is_refused(tmp_path):
    changes = {"inferer": "%/etc/other.json::inferer"}
    folder = write_bundle(tmp_path / "b", SEGMENTER, bright_voxel_weights(), changes=changes)

    with pytest.raises(ModelUnavailableError, match="another file"):
        load(settings_for(folder))


def test_broken_expression_is_named_and_not_a_traceback_of_ours(tmp_path):
    changes = {"network_def": "$torch.nn.NoSuchLayer()"}
    folder = write_bundle(tmp_path / "b", SEGMENTER, bright_voxel_weights(), changes=changes)

    with pytest.raises(ModelUnavailableError, match="NoSuchLayer"):
        load(settings_for(folder))


def test_description_runs_nothing_of_the_bundle(tmp_path):
    changes = {"network_def": "$open('/nonexistent').read()"}
    folder = write_bundle(tmp_path / "b", SEGMENTER, bright_voxel_weights(), changes=changes)

    description = describe_bundle(folder)

    assert description.name == "b"
    assert description.labels[1].meaning.lower() == "bright"
    assert description.intended_use == IntendedUse(modality=("MR",), text="tests only")
    assert sorted(description.sha256) == [
        "configs/inference.json", "configs/metadata.json", "models/model.pt",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "silent",
    [
        {"_target_": "Lambdad", "keys": "image", "func": "$lambda x: x.flip(1)"},
        {"_target_": "Lambdad", "keys": "image", "func": "$lambda x: torch.flip(x, (2,))"},
        {"_target_": "Lambdad", "keys": "image", "func": "$lambda x: x.roll(20, 3)"},
    ],
)
@pytest.mark.parametrize(
    "before", [(), ({"_target_": "CropForegroundd", "keys": "image", "source_key": "image"},)]
)
def test_preprocessing_that_mirrors_in_silence_is_refused(tmp_path, silent, before):
    preprocessing = {"_target_": "Compose", "transforms": [*before, silent]}
    changes = {"preprocessing": preprocessing}
    folder = write_bundle(tmp_path / "b", SEGMENTER, bright_voxel_weights(), changes=changes)

    with pytest.raises(ModelUnavailableError, match=r"a mark at .* comes back at"):
        load(settings_for(folder))


@pytest.mark.parametrize(
    "steps",
    [
        [{"_target_": "ScaleIntensityRanged", "a_min": -57, "a_max": 164, "b_min": 0, "b_max": 1,
          "clip": True}],
        [{"_target_": "ScaleIntensityRanged", "a_min": -1000, "a_max": 400, "b_min": 0,
          "b_max": 1, "clip": True}, {"_target_": "SpatialPadd", "spatial_size": [96, 96, 128]}],
        [{"_target_": "NormalizeIntensityd", "nonzero": True, "channel_wise": True}],
        [{"_target_": "CropForegroundd", "source_key": "image"}],
        [{"_target_": "Resized", "spatial_size": [24, 24, 24]}],
        [{"_target_": "Spacingd", "pixdim": [1.0, 1.0, 5.0]}, {"_target_": "Flipd"}],
        [{"_target_": "ResizeWithPadOrCropd", "spatial_size": [128, 64, 32]},
         {"_target_": "ScaleIntensityRangePercentilesd", "lower": 0, "upper": 99.9, "b_min": 0,
          "b_max": 1, "clip": True}],
        [{"_target_": "CenterSpatialCropd", "roi_size": [8, 8, 8]}],
    ],
)  # fmt: skip
def test_honest_preprocessing_passes_the_probe(tmp_path, steps):
    transforms = [{"keys": "image", **step} for step in steps]
    changes = {"preprocessing": {"_target_": "Compose", "transforms": transforms}}
    folder = write_bundle(tmp_path / "b", SEGMENTER, bright_voxel_weights(), changes=changes)

    assert load(settings_for(folder)).labels


def test_device_that_is_not_there_is_named(segmenter):
    if torch.cuda.is_available():
        pytest.skip("this machine has the device")

    with pytest.raises(ModelUnavailableError, match="device cuda"):
        load(settings_for(segmenter, device="cuda"))
