"""One stored series of every kind of image that results are made of, and one that is refused."""

import numpy as np
from pydicom import Dataset
from pydicom.uid import (
    DigitalMammographyXRayImageStorageForPresentation,
    EnhancedMRImageStorage,
    UltrasoundImageStorage,
    VLWholeSlideMicroscopyImageStorage,
)

from tests.build import (
    cr_dataset,
    ct_series,
    dx_dataset,
    enhanced_ct_dataset,
    image_dataset,
    marked_volume,
    mr_series,
    photo_dataset,
    stored,
)


def mammogram() -> Dataset:
    """A left breast, with the nipple to the left of the image."""
    pixels = np.arange(48, dtype=np.uint16).reshape(6, 8) * 80
    dataset = image_dataset(
        DigitalMammographyXRayImageStorageForPresentation,
        pixels,
        modality="MG",
        photometric="MONOCHROME2",
    )
    dataset.BodyPartExamined = "BREAST"
    dataset.ImageLaterality = "L"
    dataset.PatientOrientation = ["A", "R"]
    dataset.ImagerPixelSpacing = [0.1, 0.1]
    dataset.WindowCenter, dataset.WindowWidth = 2000, 4000
    return dataset


def ultrasound() -> Dataset:
    """A gray still of eight bits."""
    pixels = np.arange(48, dtype=np.uint8).reshape(6, 8) * 5
    return image_dataset(UltrasoundImageStorage, pixels, modality="US", photometric="MONOCHROME2")


def enhanced_mr() -> Dataset:
    """An enhanced MR on an oblique grid, its frames stored in reverse."""
    dataset = enhanced_ct_dataset(marked_volume("oblique"), order=[4, 3, 2, 1, 0])
    dataset.SOPClassUID = EnhancedMRImageStorage
    dataset.file_meta.MediaStorageSOPClassUID = EnhancedMRImageStorage
    dataset.Modality = "MR"
    return dataset


def whole_slide() -> Dataset:
    """One tile of a slide."""
    pixels = np.zeros((6, 8, 3), np.uint8)
    return image_dataset(
        VLWholeSlideMicroscopyImageStorage, pixels, modality="SM", photometric="RGB"
    )


#: What stores each kind in a folder and returns the series.
SOURCES = {
    "CT": ct_series,
    "MR, oblique": lambda folder: mr_series(folder, "oblique"),
    "enhanced CT": lambda folder: stored(folder, [enhanced_ct_dataset()]),
    "enhanced MR": lambda folder: stored(folder, [enhanced_mr()]),
    "CR": lambda folder: stored(folder, [cr_dataset()]),
    "DX": lambda folder: stored(folder, [dx_dataset()]),
    "MG": lambda folder: stored(folder, [mammogram()]),
    "US": lambda folder: stored(folder, [ultrasound()]),
    "photograph": lambda folder: stored(folder, [photo_dataset()]),
}
REFUSED = {"whole slide": lambda folder: stored(folder, [whole_slide()])}
