"""Builders of one image of each kind of source, for tables of objects by kind."""

from dataclasses import replace

from dicom_io.volume import SourceFrame
from tests.build_analysis import (
    OBLIQUE,
    make_enhanced_input,
    make_input,
    make_photograph,
    make_projection,
)

CR = "1.2.840.10008.5.1.4.1.1.1"
MG = "1.2.840.10008.5.1.4.1.1.1.2"
US = "1.2.840.10008.5.1.4.1.1.6.1"


def make_plane(sop_class, modality, **attributes):
    """One image without a place in patient space, with the attributes that its kind has."""
    source = make_projection()
    (header,) = source.headers
    header.SOPClassUID = sop_class
    header.Modality = modality
    for keyword in ("ImagerPixelSpacing", "BodyPartExamined"):
        delattr(header, keyword)
    for keyword, value in attributes.items():
        setattr(header, keyword, value)
    frame = SourceFrame(sop_instance_uid=str(header.SOPInstanceUID), sop_class_uid=sop_class)
    return replace(source, volume=replace(source.volume, frames=(frame,), modality=modality))


#: Name of a kind to what makes an image of it.
SOURCE_KINDS = {
    "CT": make_input,
    "MR, oblique": lambda: make_input(OBLIQUE, "MR"),
    "MR, enhanced multi-frame": make_enhanced_input,
    "CR": lambda: make_plane(CR, "CR", BodyPartExamined="CHEST", ViewPosition="PA"),
    "DX": make_projection,
    "MG": lambda: make_plane(
        MG,
        "MG",
        BodyPartExamined="BREAST",
        ImageLaterality="L",
        ViewPosition="MLO",
        PatientOrientation=["A", "FR"],
        ImagerPixelSpacing=[0.07, 0.07],
    ),
    "US": lambda: make_plane(US, "US", PatientOrientation=""),
    "photograph": make_photograph,
}
