"""Builders of volumes in known places and of small MONAI bundles on disk."""

import copy
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ai.models.bundle_files import hash_bundle
from ai.settings import ModelSettings
from dicom_io.volume import SourceFrame, Volume

MR_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.4"

#: Voxels of the published networks' grid, whose axes run to the left, down and forward, that hold
#: the unturned head of the test data: two fifths of them.
HEAD = (176, 176, 224)

#: Directions of (slice, row index, column index) in LPS, as columns, of the usual ways to slice.
ORIENTATIONS = {
    "axial": np.array([[0.0, 0, 1], [0, 1, 0], [1, 0, 0]]),
    "sagittal": np.array([[-1.0, 0, 0], [0, 0, 1], [0, -1, 0]]),
    "coronal": np.array([[0.0, 0, 1], [1, 0, 0], [0, -1, 0]]),
}


def make_volume(
    voxels: NDArray[np.float32],
    *,
    affine: NDArray[np.float64] | None = None,
    modality: str = "MR",
    **changes: Any,
) -> Volume:
    """A volume of [slice, row, column] or [channel, slice, row, column] voxels."""
    array = voxels if voxels.ndim == 4 else voxels[None]
    array = np.ascontiguousarray(array, dtype=np.float32)
    array.setflags(write=False)
    frames = tuple(
        SourceFrame(sop_instance_uid=f"1.2.3.{index}", sop_class_uid=MR_IMAGE_STORAGE)
        for index in range(array.shape[1])
    )
    known: dict[str, Any] = {
        "voxels": array,
        "affine": affine,
        "frames": frames,
        "modality": modality,
        "series_instance_uid": "1.2.3",
        "frame_of_reference_uid": None if affine is None else "1.2.4",
        "pixel_spacing_mm": None,
    }
    return Volume(**(known | changes))


def make_affine(
    directions: NDArray[np.float64],
    spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0),
    origin_mm: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> NDArray[np.float64]:
    """Affine from columns of unit directions of (slice, row, column), spacing and origin."""
    affine = np.eye(4)
    affine[:3, :3] = directions * np.asarray(spacing_mm)
    affine[:3, 3] = origin_mm
    return affine


def blob_volume(
    *,
    shape: tuple[int, int, int] = (24, 30, 36),
    affine: NDArray[np.float64],
    center_mm: tuple[float, float, float],
    radius_mm: float = 3.0,
) -> Volume:
    """A volume of zeros with one bright ball around a point in LPS mm."""
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    points = index @ affine[:3, :3].T + affine[:3, 3]
    distance = np.linalg.norm(points - np.asarray(center_mm), axis=-1)
    ball = np.exp(-((distance / radius_mm) ** 2)).astype(np.float32)
    return make_volume(ball, affine=affine)


def centroid_mm(weights: NDArray[Any], affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """Center of mass of [a, b, c] in LPS mm."""
    index = np.stack(np.meshgrid(*map(np.arange, weights.shape), indexing="ij"), axis=-1)
    mean = (index * weights[..., None]).sum(axis=(0, 1, 2)) / weights.sum()
    return np.asarray(affine[:3, :3] @ mean + affine[:3, 3])


SEGMENTER: dict[str, Any] = {
    "imports": ["$import torch", "$import os"],
    "bundle_root": ".",
    "output_dir": "$@bundle_root + '/eval'",
    "device": "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
    "network_def": "$torch.nn.Conv3d(1, 2, 1)",
    "network": "$@network_def.to(@device)",
    "preprocessing": {
        "_target_": "Compose",
        "transforms": [
            {"_target_": "LoadImaged", "keys": "image"},
            {"_target_": "EnsureChannelFirstd", "keys": "image"},
            {"_target_": "Orientationd", "keys": "image", "axcodes": "RAS", "labels": None},
            {"_target_": "SpatialPadd", "keys": "image", "spatial_size": [40, 40, 40]},
            {"_target_": "EnsureTyped", "keys": "image", "device": "@device"},
        ],
    },
    "inferer": {"_target_": "SimpleInferer"},
    "postprocessing": {
        "_target_": "Compose",
        "transforms": [
            {"_target_": "Activationsd", "keys": "pred", "softmax": True},
            {
                "_target_": "Invertd",
                "keys": "pred",
                "transform": "@preprocessing",
                "orig_keys": "image",
                "nearest_interp": False,
            },
            {"_target_": "AsDiscreted", "keys": "pred", "argmax": True},
            {"_target_": "SaveImaged", "keys": "pred", "output_dir": "@output_dir"},
        ],
    },
    "handlers": [
        {
            "_target_": "CheckpointLoader",
            "load_path": "$@bundle_root + '/models/model.pt'",
            "load_dict": {"model": "@network"},
        }
    ],
}

CLASSIFIER: dict[str, Any] = {
    "import": ["$import torch"],
    "bundle_root": ".",
    "network_def": (
        "$torch.nn.Sequential(torch.nn.Conv3d(1, 2, 1), torch.nn.AdaptiveAvgPool3d(1), "
        "torch.nn.Flatten())"
    ),
    "preprocessing": {
        "_target_": "Compose",
        "transforms": [
            {"_target_": "LoadImaged", "keys": ["image", "label"]},
            {"_target_": "AsChannelFirstd", "keys": "image"},
            {"_target_": "EnsureTyped", "keys": "image"},
        ],
    },
    "inferer": {"_target_": "SimpleInferer"},
    "postprocessing": {
        "_target_": "Compose",
        "transforms": [{"_target_": "Activationsd", "keys": "pred", "sigmoid": True}],
    },
}


def bright_voxel_weights() -> dict[str, torch.Tensor]:
    """Of ``Conv3d(1, 2, 1)``: channel 1 wins where the image is above 0.5."""
    return {
        "weight": torch.tensor([0.0, 20.0]).reshape(2, 1, 1, 1, 1),
        "bias": torch.tensor([0.0, -10.0]),
    }


def write_bundle(
    folder: Path,
    inference: Mapping[str, Any],
    weights: Mapping[str, Any],
    *,
    channels: Mapping[str, Any] | None = None,
    changes: Mapping[str, Any] | None = None,
) -> Path:
    """Write a bundle whose inference configuration differs in ``changes``; return its folder."""
    config = copy.deepcopy(dict(inference)) | dict(changes or {})
    metadata = {
        "version": "0.3.1",
        "description": "finds what is bright",
        "authors": "the tests",
        "intended_use": "tests only",
        "network_data_format": {
            "inputs": {"image": {"modality": "MRI", "num_channels": 1, "channel_def": {"0": "i"}}},
            "outputs": {
                "pred": {"channel_def": channels or {"0": "background", "1": "bright"}},
            },
        },
    }
    (folder / "configs").mkdir(parents=True)
    (folder / "models").mkdir()
    (folder / "configs" / "metadata.json").write_text(json.dumps(metadata))
    (folder / "configs" / "inference.json").write_text(json.dumps(config))
    torch.save(dict(weights), folder / "models" / "model.pt")
    return folder


def without_air(bundle: Path, folder: Path, box: Sequence[int]) -> Path:
    """Copy a bundle, have its network given the middle of the image alone; return its folder.

    The image is brought to its grid and scaled as published, and cropped after that.
    """
    for source in filter(Path.is_file, bundle.rglob("*")):
        place = folder / source.relative_to(bundle)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(source.read_bytes())
    inference = folder / "configs" / "inference.json"
    config = json.loads(inference.read_text())
    steps = config["preprocessing"]["transforms"]
    steps.append({"_target_": "CenterSpatialCropd", "keys": "image", "roi_size": list(box)})
    inference.write_text(json.dumps(config))
    return folder


def settings_for(folder: Path, **changes: Any) -> ModelSettings:
    """Trusted settings with the hashes of the folder as it is now."""
    known: dict[str, Any] = {
        "name": "bright",
        "bundle": folder,
        "trusted": True,
        "sha256": hash_bundle(folder),
    }
    return ModelSettings(**(known | changes))
