"""Training examples of the phantom classifier: made once, kept in a folder, cropped at random."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ai.phantom.head import prepare_head
from ai.phantom.make import make_phantom
from ai.resample import resample_linear

#: Training sees smaller lesions, too, than the phantoms that are measured.
_DIAMETERS_MM = (12.0, 26.0)
#: Of ten crops of a phantom with a lesion, about this many are taken around it.
_AROUND_LESION = 0.85
_GAIN_SIGMA = 0.1


def store_example(seed: int, folder: Path) -> None:
    """Write the phantom of a seed on the network's grid into ``folder``, unless it is there."""
    head_file, truth_file = _files(seed, folder)
    if truth_file.exists():
        return
    phantom = make_phantom(seed, diameters_mm=_DIAMETERS_MM)
    prepared = prepare_head(phantom.volume)
    shape = prepared.tensor.shape[2:]
    truth = resample_linear(
        torch.from_numpy(phantom.truth.astype(np.float32))[None],
        prepared.source_from_prepared,
        (shape[0], shape[1], shape[2]),
    )
    np.save(head_file, prepared.tensor[0, 0].numpy().astype(np.float16))
    # The truth is written last and moved in place: where it is, the example is whole.
    part = truth_file.with_suffix(".part.npy")
    np.save(part, truth[0].numpy() >= 0.5)
    part.replace(truth_file)


def whole_example(seed: int, folder: Path) -> tuple[Tensor, Tensor]:
    """Return the head and the truth of a stored example as they are, float32 [1, 1, *S]."""
    head_file, truth_file = _files(seed, folder)
    head, truth = (torch.from_numpy(np.load(file)) for file in (head_file, truth_file))
    return head[None, None].float(), truth[None, None].float()


def random_batch(
    seeds: NDArray[np.int_],
    folder: Path,
    *,
    crop: tuple[int, int, int] | None,
    rng: np.random.Generator,
) -> tuple[Tensor, Tensor]:
    """Return heads and truths, float32 [B, 1, *S], one of each seed.

    Parameters
    ----------
    crop
        Voxels along each axis; None for whole heads, which must then share one grid.
    rng
        Draws crops, mirror images and gains.
    """
    pairs = [_cropped(int(seed), folder, crop, rng) for seed in seeds]
    heads = torch.from_numpy(np.stack([head for head, _ in pairs]).astype(np.float32))[:, None]
    truths = torch.from_numpy(np.stack([truth for _, truth in pairs]).astype(np.float32))[:, None]
    gains = 1 + _GAIN_SIGMA * rng.standard_normal((len(pairs), 1, 1, 1, 1), dtype=np.float32)
    heads = heads * torch.from_numpy(gains)
    if rng.random() < 0.5:
        heads, truths = heads.flip(-1), truths.flip(-1)
    return heads, truths


def _files(seed: int, folder: Path) -> tuple[Path, Path]:
    return folder / f"{seed}-head.npy", folder / f"{seed}-truth.npy"


def _cropped(
    seed: int, folder: Path, crop: tuple[int, int, int] | None, rng: np.random.Generator
) -> tuple[NDArray[np.float16], NDArray[np.bool_]]:
    head_file, truth_file = _files(seed, folder)
    head, truth = np.load(head_file, mmap_mode="r"), np.load(truth_file, mmap_mode="r")
    if crop is None:
        return head, truth
    last = np.array(head.shape, dtype=np.int_) - np.array(crop, dtype=np.int_)
    corner = rng.integers(0, last + 1)
    lesion = np.argwhere(truth)
    if len(lesion) > 0 and rng.random() < _AROUND_LESION:
        middle = lesion[rng.integers(len(lesion))]
        corner = np.clip(middle - rng.integers(0, crop), 0, last)
    box = tuple(slice(low, low + size) for low, size in zip(corner, crop, strict=True))
    return head[box], truth[box]
