"""SEG BINARY of what the model outlined."""

from pydicom import Dataset

from dicom_io.analysis import Analysis
from dicom_io.codes import segment_category
from dicom_io.encode.binary_segmentation import SOP_CLASS_UID, Layer, can_hold, encode_layers
from dicom_io.encode.inherit import Place
from dicom_io.encode.roles import SEGMENTATION
from dicom_io.origin import Origin
from dicom_io.paint import segment_lab
from dicom_io.read import Input

SOP_CLASS_UIDS: tuple[str, ...] = (SOP_CLASS_UID,)


def encode(
    analysis: Analysis, source: Input, origin: Origin, produced: tuple[Dataset, ...]
) -> tuple[Dataset, ...]:
    """Return one segmentation of all segments that have voxels, or nothing.

    Nothing also for photographs, whose pixel spacing would have to be invented.
    """
    del produced
    filled = [segment for segment in analysis.segments if segment.mask.any()]
    if not filled or not can_hold(source):
        return ()
    layers = [
        Layer(
            label=segment.label,
            description=f"{segment.label}, outlined by {analysis.model.name}",
            category=segment_category(segment.concept),
            concept=segment.concept,
            lab=segment_lab(number),
            mask=segment.mask,
            algorithm=analysis.model.name,
        )
        for number, segment in enumerate(filled, 1)
    ]
    place = Place(
        role=SEGMENTATION,
        series_number=9100,
        modality="SEG",
        sop_class_uid=SOP_CLASS_UID,
        description=f"segments {analysis.model.name}",
    )
    return (encode_layers(layers, place, analysis, source, origin),)
