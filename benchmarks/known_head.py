"""A real head as a known case: its T1 series, and white and gray matter as another network has it.

    python -m benchmarks.known_head FOLDER [--shared ../shared/data]

The truth is no person's: it is brain_meshnet18, which was trained apart from brain_meshnet3. How
far they agree says how far both can be right, and no more.
"""

import argparse
from pathlib import Path

import nibabel
import numpy as np
from numpy.typing import NDArray

from ai.models.bundle_files import hash_bundle
from ai.models.monai_bundle import load
from ai.settings import ModelSettings
from benchmarks.known_phantoms import write_series
from dicom_io.volume import Volume

#: Output channels of brain_meshnet3 to the names of the same tissue in brain_meshnet18.
TISSUES = {
    1: ("Cerebral-White-Matter", "Cerebellum-White-Matter", "Brain-Stem", "VentralDC"),
    2: (
        "Cerebral-Cortex", "Cerebellum-Cortex", "Thalamus", "Caudate", "Putamen", "Pallidum",
        "Hippocampus", "Amygdala", "Accumbens-area",
    ),
}  # fmt: skip
_LPS_FROM_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def head_volume(path: Path) -> Volume:
    """Return the T1 head of the test data as axial slices."""
    # Axes to the right, the front and the head; turned to the left, the back and the head.
    image = nibabel.as_closest_canonical(nibabel.load(path))
    values = np.asanyarray(image.dataobj).astype(np.float32)[::-1, ::-1]
    turn = np.diag([-1.0, -1.0, 1.0, 1.0])
    turn[:2, 3] = np.array(values.shape[:2]) - 1
    affine = _LPS_FROM_RAS @ image.affine @ turn @ np.eye(4)[[2, 1, 0, 3]]
    voxels = values.transpose(2, 1, 0)
    return Volume(
        voxels=np.ascontiguousarray(voxels)[None],
        affine=affine,
        frames=(),
        modality="MR",
        series_instance_uid="1.2.3",
        frame_of_reference_uid=None,
        pixel_spacing_mm=None,
        window=(80.0, 160.0),
        body_part="HEAD",
    )


def write_known_head(folder: Path, shared: Path) -> None:
    """Write ``data/t1-head`` and ``truth/t1-head.nii.gz``, unless they are there."""
    if not (folder / "data" / "t1-head").exists():
        write_series(head_volume(shared / "t1_head.nii.gz"), folder / "data" / "t1-head", "head")
    truth = folder / "truth" / "t1-head.nii.gz"
    if truth.exists():
        return
    volume = head_volume(shared / "t1_head.nii.gz")
    bundle = (shared / "brain_meshnet18").resolve()
    settings = ModelSettings(
        name="meshnet18", bundle=bundle, trusted=True, sha256=hash_bundle(bundle)
    )
    model = load(settings)
    masks = model.predict(model.prepare(volume)).masks
    labels = np.zeros(volume.grid_shape, np.uint8)
    for channel, names in TISSUES.items():
        for name in names:
            labels[masks[name]] = channel
    write_label_map(labels, volume, truth)


def write_label_map(labels: NDArray[np.uint8], volume: Volume, path: Path) -> None:
    """Write labels on the grid of a volume as NIfTI, axes [column, row, slice] in RAS."""
    path.parent.mkdir(parents=True, exist_ok=True)
    affine = _LPS_FROM_RAS @ volume.affine @ np.eye(4)[[2, 1, 0, 3]]
    nibabel.save(nibabel.Nifti1Image(labels.transpose(2, 1, 0), affine), path)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.known_head")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--shared", type=Path, default=Path("../shared/data"))
    asked = parser.parse_args()
    write_known_head(asked.folder, asked.shared)


if __name__ == "__main__":
    main()
