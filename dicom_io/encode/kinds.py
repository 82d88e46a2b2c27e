"""Kinds: which SOP classes each result may be, known without loading what writes it."""

from collections.abc import Mapping
from types import MappingProxyType

_BASIC_TEXT_SR = "1.2.840.10008.5.1.4.1.1.88.11"
_ENHANCED_SR = "1.2.840.10008.5.1.4.1.1.88.22"
_KEY_OBJECT_SELECTION = "1.2.840.10008.5.1.4.1.1.88.59"
_PARAMETRIC_MAP = "1.2.840.10008.5.1.4.1.1.30"
_PRESENTATION_STATE = "1.2.840.10008.5.1.4.1.1.11.1"
_SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"

#: Name of a result, as routes use it, to the SOP classes of its objects (PS3.4 B.5). Every encoder
#: of ours repeats its own line as ``SOP_CLASS_UIDS``; a test holds the two together.
KINDS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "report": (_ENHANCED_SR,),
        "measurements": (_ENHANCED_SR,),
        "report_basic": (_BASIC_TEXT_SR,),
        "segmentation": (_SEGMENTATION,),
        "bands": (_SEGMENTATION,),
        "bands_placed": (_SEGMENTATION,),
        "overlay": (_SECONDARY_CAPTURE,),
        "overlay_rle": (_SECONDARY_CAPTURE,),
        "presentation": (_PRESENTATION_STATE,),
        "fractional": (_SEGMENTATION,),
        "parametric_map": (_PARAMETRIC_MAP,),
        "parametric_map_coarse": (_PARAMETRIC_MAP,),
        "key_objects": (_KEY_OBJECT_SELECTION,),
    }
)
#: Name of a result to the transfer syntax that its objects are compressed in (PS3.5 A.4); all
#: others are uncompressed.
COMPRESSED: Mapping[str, str] = MappingProxyType({"overlay_rle": "1.2.840.10008.1.2.5"})
#: Documents that are about a task or about other objects; no route asks for them.
OUTCOME_KIND = "outcome"
BASIC_OUTCOME_KIND = "outcome_basic"
OUTCOME_KINDS = (OUTCOME_KIND, BASIC_OUTCOME_KIND)
REJECTION_KIND = "rejection"
NOTES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        OUTCOME_KIND: (_ENHANCED_SR,),
        BASIC_OUTCOME_KIND: (_BASIC_TEXT_SR,),
        REJECTION_KIND: (_KEY_OBJECT_SELECTION,),
    }
)


def sop_classes() -> tuple[str, ...]:
    """Return every SOP class that an object of ours may be, sorted."""
    return tuple(sorted({uid for uids in (*KINDS.values(), *NOTES.values()) for uid in uids}))
