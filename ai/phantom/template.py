"""The anatomy that every phantom is made from: the MNI152 2009a head, as shipped."""

from dataclasses import dataclass
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray

#: Inside the package ``ai.phantom``; made by ``python -m ai.phantom.build_template``.
TEMPLATE_FILE = "data/mni152_t1.npz"


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """A skull-stripped T1 head on axial slices of 1 mm."""

    #: uint8 [slice, row, column]: slices to the head, rows to the back, columns to the left;
    #: 0 outside the brain; read-only.
    intensity: NDArray[np.uint8]
    #: 4 x 4 float64 from (slice, row, column, 1) to LPS mm of the MNI space.
    affine: NDArray[np.float64]


def load_template() -> Template:
    """Return the shipped template."""
    with (files("ai.phantom") / TEMPLATE_FILE).open("rb") as stream, np.load(stream) as stored:
        intensity, affine = stored["intensity"], stored["affine"]
    intensity.setflags(write=False)
    affine.setflags(write=False)
    return Template(intensity=intensity, affine=affine)
