"""Builders of known cases: small MR series in which something bright was planted, or was not."""

from pathlib import Path

import numpy as np

from ai.settings import ModelSettings
from benchmarks.known_phantoms import write_segmentation
from dicom_io.codes import code_for_label
from dicom_io.read import Input, read_input
from node.commands.validate import Wanted
from tests.build import affine_of, slice_datasets, stored, volume_of
from tests.build_bundles import CLASSIFIER, settings_for, write_bundle

SHAPE = (10, 16, 16)
LABEL = "bright"
#: What a person who outlines draws: box of the planted cube.
CUBE = (slice(3, 7), slice(4, 8), slice(9, 13))
#: One channel per class, so that the mean of what is above 0.5 speaks for the second.
CLASSES = {
    "network_def": (
        "$torch.nn.Sequential(torch.nn.Conv3d(1, 4, 3, padding=1), torch.nn.ReLU(), "
        "torch.nn.AdaptiveAvgPool3d(1), torch.nn.Flatten(), torch.nn.Linear(4, 2))"
    ),
    "postprocessing": {
        "_target_": "Compose",
        "transforms": [{"_target_": "Activationsd", "keys": "pred", "softmax": True}],
    },
}


def bright_classifier(folder: Path) -> ModelSettings:
    """A bundle that calls an image by how much of it is bright, with mistakes."""
    import torch

    kernel = torch.zeros(4, 1, 3, 3, 3)
    kernel[:, 0, 1, 1, 1] = torch.tensor([1.0, 1.0, 0.5, 0.0])
    weights = {
        "0.weight": kernel,
        "0.bias": torch.tensor([-1.2, -2.0, -1.0, 0.1]),
        "4.weight": torch.tensor([[0.0, 0.0, 0.0, 0.0], [40.0, 20.0, 0.0, 0.0]]),
        "4.bias": torch.tensor([0.0, -0.9]),
    }
    write_bundle(folder, CLASSIFIER, weights, changes=CLASSES)
    return settings_for(folder, labels={1: code_for_label(LABEL)})


def write_case(folder: Path, number: int, *, bright: bool) -> Input:
    """Write one series of noise, with a bright cube or without, of a patient of its own."""
    rng = np.random.default_rng(number)
    voxels = rng.uniform(0.0, 1.0, SHAPE).astype(np.float32) * rng.uniform(1.0, 1.45)
    if bright:
        voxels[CUBE] = rng.uniform(1.3, 3.0)
    volume = volume_of(voxels, affine_of("axial", spacing=(1.5, 1.0, 1.0)), modality="MR")
    series = stored(folder / f"case-{number}", slice_datasets(volume, seed=f"case {number}"))
    return read_input(series, "image")


def cube() -> np.ndarray:
    """The truth of every bright case, bool [slice, row, column]."""
    mask = np.zeros(SHAPE, np.bool_)
    mask[CUBE] = True
    return mask


def write_known_cases(folder: Path, count: int) -> None:
    """Write ``data`` and ``truth``: every other case is bright, and has a SEG that says where."""
    truth = folder / "truth"
    truth.mkdir(parents=True, exist_ok=True)
    lines = []
    for number in range(count):
        bright = number % 2 == 0
        source = write_case(folder / "data", number, bright=bright)
        if bright:
            write_segmentation(cube(), source, truth / f"case-{number}.dcm")
        lines.append(f"case-{number},{LABEL},{int(bright)}\n")
    (truth / "truth.csv").write_text("case,label,there\n" + "".join(lines))


def wanted(folder: Path, model: ModelSettings, **changes) -> Wanted:
    """What the command is asked to do with the cases of a folder."""
    known = {
        "model": model,
        "data": folder / "data",
        "truth": folder / "truth",
        "out": folder / "card",
        "explainers": ("layer_cam",),
        "curve_cases": 0,
        "randomized_cases": 0,
    }
    return Wanted(**(known | changes))
