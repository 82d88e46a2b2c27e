"""A volume as network input, and the exact way back to the grid of its source, by affines."""

from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
import torch
from monai.data.meta_tensor import MetaTensor
from numpy.typing import NDArray
from torch import Tensor

from ai.errors import ModelUnavailableError, UnsuitableInputError
from ai.model import Prepared
from ai.resample import resample_linear, resample_nearest
from dicom_io.volume import Volume

#: A MONAI dictionary transform.
Transform = Callable[[dict[str, Any]], dict[str, Any]]

#: MONAI moves axes in these without moving the affine.
_SILENT_TRANSFORMS = frozenset({"Transpose", "Transposed", "SqueezeDim", "SqueezeDimd"})

#: From a voxel's center to its face, and what rounding adds.
_TO_FACE = 0.5001


def prepare(
    volume: Volume,
    transforms: Sequence[Transform],
    *,
    key: str = "image",
    spatial_dims: int = 3,
    device: str = "cpu",
) -> Prepared:
    """Return the volume after MONAI's ``transforms``, with the way back to its own grid.

    Parameters
    ----------
    transforms
        Dictionary transforms without loading, saving and channel-first: the image is given to
        them channel first, in MONAI's conventions, under ``key``.
    spatial_dims
        3, or 2 for a network that takes a projection or a single slice.

    Raises
    ------
    UnsuitableInputError
        The image has more than one slice and the network takes two dimensions, or the image is
        a projection and the network takes three.
    ModelUnavailableError
        A transform moved voxels without saying so in the affine.
    """
    if spatial_dims == 2 and volume.grid_shape[0] != 1:
        raise UnsuitableInputError(
            f"series {volume.series_instance_uid}: the model takes one slice, "
            f"the image has {volume.grid_shape[0]}"
        )
    if spatial_dims == 3 and volume.affine is None:
        raise UnsuitableInputError(
            f"series {volume.series_instance_uid}: the model takes a volume, "
            f"the image has no place in patient space"
        )
    tensor, source_from_prepared = _through_monai(
        volume, lambda image: _tracked(transforms, image, key), spatial_dims
    )
    return Prepared(
        tensor=tensor[None].to(device),
        affine=None if volume.affine is None else volume.affine @ source_from_prepared,
        source_from_prepared=source_from_prepared,
        source=volume,
    )


def to_source_grid(relevance: Tensor, prepared: Prepared) -> NDArray[np.float32]:
    """Return relevance on the grid of the source volume, zero outside the prepared grid.

    Parameters
    ----------
    relevance
        [C, *S] on the prepared grid: a density, so its values are interpolated linearly and not
        rescaled by the size of the voxels.

    Returns
    -------
    NDArray
        float32 [channel, slice, row, column]; read-only.
    """
    density = probabilities_to_source_grid(relevance.detach().to(torch.float32), prepared)
    array = cast("NDArray[np.float32]", density.cpu().numpy())
    array.setflags(write=False)
    return array


def probabilities_to_source_grid(probabilities: Tensor, prepared: Prepared) -> Tensor:
    """Return floating point [K, *S] as [K, slice, row, column] by linear interpolation."""
    values, matrix = _prepared_values(probabilities, prepared)
    return resample_linear(values, matrix, prepared.source.grid_shape)


def labels_to_source_grid(labels: Tensor, prepared: Prepared) -> Tensor:
    """Return labels [K, *S] as [K, slice, row, column], each voxel from the nearest."""
    values, matrix = _prepared_values(labels, prepared)
    return resample_nearest(values, matrix, prepared.source.grid_shape)


def mask_to_prepared_grid(mask: NDArray[np.bool_], prepared: Prepared) -> Tensor:
    """Return a mask [slice, row, column] of the source as bool [*S], from the nearest voxel.

    A structure too small for the prepared grid keeps the voxels that its own centers lie in.
    """
    spatial = prepared.tensor.shape[2:]
    first, second, third = (*spatial, 1, 1)[:3]
    values = torch.tensor(mask, dtype=torch.bool, device=prepared.tensor.device)[None]
    moved = resample_nearest(values, prepared.source_from_prepared, (first, second, third))[0]
    if not bool(moved.any()):
        to_prepared = np.linalg.inv(prepared.source_from_prepared)
        centers = np.argwhere(mask) @ to_prepared[:3, :3].T + to_prepared[:3, 3]
        last = np.array(moved.shape) - 1
        # Up to the outer faces of the outermost voxels, as the way back takes them.
        inside = np.all((centers >= -_TO_FACE) & (centers <= last + _TO_FACE), axis=1)
        nearest = np.clip(np.rint(centers[inside]), 0, last).astype(np.int64)
        moved[tuple(torch.as_tensor(nearest.T))] = True
    return moved.reshape(spatial)


def _prepared_values(values: Tensor, prepared: Prepared) -> tuple[Tensor, NDArray[np.float64]]:
    """Return values with three spatial axes, and the matrix from source to prepared index."""
    spatial = prepared.tensor.shape[2:]
    if values.shape[1:] != spatial:
        raise ValueError(f"values of shape {tuple(values.shape[1:])} on a grid {tuple(spatial)}")
    matrix = np.asarray(np.linalg.inv(prepared.source_from_prepared), dtype=np.float64)
    return values.reshape(values.shape[0], *(*spatial, 1, 1)[:3]), matrix


def _through_monai(
    volume: Volume, transform: Callable[[MetaTensor], MetaTensor], spatial_dims: int
) -> tuple[Tensor, NDArray[np.float64]]:
    """Return float32 [C, *S], transformed, and the matrix from its index to the source's.

    The only place that knows MONAI's conventions: an array is [C, i, j, k] = [C, column, row,
    slice], as its readers of DICOM give it, and its affine leads to RAS mm. A projection lies
    in a plane of its own, with its pixel spacing where that is known.
    """
    source_from_monai = np.eye(4)[[2, 1, 0, 3]]
    if volume.affine is None:
        row_mm, column_mm = volume.pixel_spacing_mm or (1.0, 1.0)
        ras_from_source = np.diag([1.0, row_mm, column_mm, 1.0])[[2, 1, 0, 3]]
    else:
        ras_from_source = np.diag([-1.0, -1.0, 1.0, 1.0]) @ volume.affine
    array = np.array(volume.voxels.transpose(0, 3, 2, 1), order="C", copy=True)
    image = MetaTensor(
        torch.from_numpy(array if spatial_dims == 3 else array[..., 0]),
        affine=torch.from_numpy(ras_from_source @ source_from_monai),
        meta={"space": "RAS"},
    )
    moved = transform(image)
    ras_from_prepared = np.asarray(moved.affine, dtype=np.float64)
    tensor = moved.as_tensor().detach().to(torch.float32)
    source_from_ras = np.linalg.inv(ras_from_source)
    return tensor, np.asarray(source_from_ras @ ras_from_prepared, dtype=np.float64)


def _tracked(transforms: Sequence[Transform], image: MetaTensor, key: str) -> MetaTensor:
    entry: dict[str, Any] = {key: image}
    for transform in transforms:
        before = cast("MetaTensor", entry[key])
        shape, affine = before.shape[1:], before.affine.clone()
        recorded = len(before.applied_operations)
        entry = transform(entry)
        after = entry[key]
        name = type(transform).__name__
        if not isinstance(after, MetaTensor):
            raise ModelUnavailableError(f"{name} lost the image's affine: no way back to it")
        names = {str(each["class"]) for each in after.applied_operations[recorded:]}
        moved = not torch.allclose(after.affine.to(affine), affine, atol=1e-6)
        if name in _SILENT_TRANSFORMS or not _is_honest(names, after.shape[1:] != shape, moved):
            raise ModelUnavailableError(
                f"{name} changed the grid from {tuple(shape)} to {tuple(after.shape[1:])} "
                f"and did not say how in the affine: no way back to the source"
            )
    return cast("MetaTensor", entry[key])


def _is_honest(recorded: set[str], reshaped: bool, moved: bool) -> bool:
    """Return whether a step's change of shape and affine is one that MONAI tracks.

    Padding or cropping at the far end changes the shape and rightly not the affine.
    """
    spatial = recorded - {"Lambda", "Lambdad"}
    if moved:
        return bool(spatial)
    return not reshaped or any("Pad" in name or "Crop" in name for name in spatial)
