"""The report that is to be read: conclusion first, then tables; numbers and provenance last."""

from pydicom import Dataset

from dicom_io.analysis import Analysis
from dicom_io.encode import content
from dicom_io.encode.evidence import evidence_beside
from dicom_io.encode.inherit import Place, identify_private_scheme, new_object
from dicom_io.encode.regions import regions_of
from dicom_io.encode.report_items import describe, report_items
from dicom_io.encode.report_writer import Writer
from dicom_io.encode.roles import REPORT
from dicom_io.origin import Origin
from dicom_io.read import Input
from dicom_io.report_codes import AI_REPORT

#: Enhanced SR holds numbers, and more archives take it than Comprehensive 3D SR.
SOP_CLASS_UID = "1.2.840.10008.5.1.4.1.1.88.22"
SOP_CLASS_UIDS: tuple[str, ...] = (SOP_CLASS_UID,)


def encode(
    analysis: Analysis, source: Input, origin: Origin, produced: tuple[Dataset, ...]
) -> tuple[Dataset, ...]:
    """Return the report (PS3.3 A.35.2), also where nothing was found.

    Parameters
    ----------
    produced
        What was made of this analysis before; the report names it as its evidence.
    """
    place = Place(
        role=REPORT,
        series_number=9000,
        modality="SR",
        sop_class_uid=SOP_CLASS_UID,
        description=describe(analysis),
    )
    dataset = new_object(place, analysis, source, origin)
    writer = Writer(
        analysis=analysis,
        source=source,
        origin=origin,
        produced=produced,
        document=dataset,
        regions=regions_of(analysis, source.volume),
    )
    content.write_content(dataset, AI_REPORT, report_items(writer))
    content.complete_document(dataset, evidence_beside(writer), origin.predecessors)
    identify_private_scheme(dataset)
    return (dataset,)
