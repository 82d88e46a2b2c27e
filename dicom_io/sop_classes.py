"""Which SOP classes are images that can be read, and what kind of image each is."""

from enum import Enum, auto

from pydicom import config, uid


class ImageKind(Enum):
    """How the frames of a SOP class are placed."""

    #: One slice an instance, placed by the Image Plane module (PS3.3 C.7.6.2).
    SLICE = auto()
    #: Many frames an instance, placed by functional groups (PS3.3 C.7.6.16).
    ENHANCED = auto()
    #: A projection, photograph or screen: an image of its own, without a place in the patient.
    PLANAR = auto()


_SLICE = (
    uid.CTImageStorage,
    uid.MRImageStorage,
    uid.PositronEmissionTomographyImageStorage,
)
_ENHANCED = (
    uid.EnhancedCTImageStorage,
    uid.EnhancedMRImageStorage,
    uid.EnhancedMRColorImageStorage,
    uid.EnhancedPETImageStorage,
    uid.LegacyConvertedEnhancedCTImageStorage,
    uid.LegacyConvertedEnhancedMRImageStorage,
    uid.LegacyConvertedEnhancedPETImageStorage,
    uid.XRay3DAngiographicImageStorage,
    uid.XRay3DCraniofacialImageStorage,
    uid.BreastTomosynthesisImageStorage,
    uid.ParametricMapStorage,
)
_PLANAR = (
    uid.ComputedRadiographyImageStorage,
    uid.DigitalXRayImageStorageForPresentation,
    uid.DigitalXRayImageStorageForProcessing,
    uid.DigitalMammographyXRayImageStorageForPresentation,
    uid.DigitalMammographyXRayImageStorageForProcessing,
    uid.DigitalIntraOralXRayImageStorageForPresentation,
    uid.DigitalIntraOralXRayImageStorageForProcessing,
    uid.XRayAngiographicImageStorage,
    uid.XRayRadiofluoroscopicImageStorage,
    uid.RTImageStorage,
    uid.NuclearMedicineImageStorage,
    uid.UltrasoundImageStorage,
    uid.UltrasoundMultiFrameImageStorage,
    # Retired in 1993, still in archives: ultrasound, its multi-frame form, nuclear medicine.
    "1.2.840.10008.5.1.4.1.1.6",
    "1.2.840.10008.5.1.4.1.1.3",
    "1.2.840.10008.5.1.4.1.1.5",
    uid.SecondaryCaptureImageStorage,
    uid.MultiFrameSingleBitSecondaryCaptureImageStorage,
    uid.MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
    uid.MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
    uid.MultiFrameTrueColorSecondaryCaptureImageStorage,
    uid.VLEndoscopicImageStorage,
    uid.VLMicroscopicImageStorage,
    uid.VLSlideCoordinatesMicroscopicImageStorage,
    uid.VLPhotographicImageStorage,
    uid.DermoscopicPhotographyImageStorage,
    uid.OphthalmicPhotography8BitImageStorage,
    uid.OphthalmicPhotography16BitImageStorage,
)

_KINDS = {
    str(sop_class): kind
    for kind, classes in (
        (ImageKind.SLICE, _SLICE),
        (ImageKind.ENHANCED, _ENHANCED),
        (ImageKind.PLANAR, _PLANAR),
    )
    for sop_class in classes
}


def image_kind(sop_class_uid: str) -> ImageKind | None:
    """Return how instances of a SOP class are read; None if it is no image to be analyzed.

    Segmentations, reports, waveforms, dose grids, plans, documents and presentation states are
    results or settings; a whole-slide image is tiled and needs a reader of its own.
    """
    return _KINDS.get(sop_class_uid)


def sop_class_name(sop_class_uid: str) -> str:
    """Return the standard's name of a SOP class, or its UID where it has none."""
    return str(uid.UID(sop_class_uid, validation_mode=config.IGNORE).name)
