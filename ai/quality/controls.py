"""Maps that know nothing of the model: what every explanation has to beat."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage


def random_map(shape: tuple[int, ...], generator: np.random.Generator) -> NDArray[np.float32]:
    """Return relevance drawn evenly from 0 to 1, of ``shape``."""
    drawn: NDArray[np.float32] = generator.random(shape, dtype=np.float32)
    return drawn


def intensity_map(image: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return how bright each voxel is above the darkest one.

    Parameters
    ----------
    image
        [*S], in whatever unit.
    """
    bright = np.asarray(image, dtype=np.float64)
    above: NDArray[np.float64] = bright - bright.min()
    return above.astype(np.float32)


def darkness_map(image: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return how dark each voxel [*S] is below the brightest one."""
    return intensity_map(-np.asarray(image, dtype=np.float64))


def sobel_map(image: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return the magnitude of the Sobel gradient of an image [*S], per voxel step.

    Notes
    -----
    Axes of length 1 carry no gradient and are left out, so that a projection stored as one slice
    gets its two-dimensional edges.
    """
    smooth = np.asarray(image, dtype=np.float64)
    squares = np.zeros_like(smooth)
    for axis, length in enumerate(smooth.shape):
        if length > 1:
            squares += ndimage.sobel(smooth, axis=axis, mode="nearest") ** 2
    return np.sqrt(squares).astype(np.float32)
