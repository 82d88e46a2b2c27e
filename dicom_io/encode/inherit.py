"""What every result object has alike: the patient and study of its source, and who made it."""

import copy
import hashlib
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from pydicom import Dataset
from pydicom.charset import convert_encodings
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian
from pydicom.valuerep import DA, DT, TM

from dicom_io.analysis import Analysis, ModelCard
from dicom_io.codes import (
    PRIVATE_SCHEME,
    PRIVATE_SCHEME_NAME,
    PROCESSING_EQUIPMENT,
    SOURCE_IMAGE,
    Code,
)
from dicom_io.origin import Origin
from dicom_io.read import Input
from dicom_io.uids import derived_uid
from dicom_io.volume import SourceFrame

MANUFACTURER = "Pellucid"
MODEL_NAME = "Pellucid"
IMPLEMENTATION_VERSION = "PELLUCID"

#: Attributes of PS3.3 C.7.1.1, C.7.1.3, C.7.2.1, C.7.2.2 and C.7.2.3, taken over unchanged.
INHERITED = (
    *("PatientName", "PatientID", "IssuerOfPatientID", "TypeOfPatientID"),
    *("IssuerOfPatientIDQualifiersSequence", "OtherPatientIDs", "OtherPatientIDsSequence"),
    *("PatientBirthDate", "PatientBirthTime", "PatientSex", "OtherPatientNames", "EthnicGroup"),
    *("PatientSpeciesDescription", "PatientSpeciesCodeSequence", "PatientBreedDescription"),
    *("PatientBreedCodeSequence", "BreedRegistrationSequence", "ResponsiblePerson"),
    *("ResponsiblePersonRole", "ResponsibleOrganization", "QualityControlSubject"),
    *("PatientIdentityRemoved", "DeidentificationMethod", "DeidentificationMethodCodeSequence"),
    *("PatientAge", "PatientSize", "PatientWeight", "PatientSexNeutered", "PregnancyStatus"),
    *("ClinicalTrialSponsorName", "ClinicalTrialProtocolID", "ClinicalTrialProtocolName"),
    *("ClinicalTrialSiteID", "ClinicalTrialSiteName", "ClinicalTrialSubjectID"),
    *("ClinicalTrialSubjectReadingID", "ClinicalTrialTimePointID"),
    *("ClinicalTrialTimePointDescription", "StudyInstanceUID", "StudyDate", "StudyTime"),
    *("StudyID", "AccessionNumber", "IssuerOfAccessionNumberSequence", "StudyDescription"),
    *("ReferringPhysicianName", "ProcedureCodeSequence", "LongitudinalTemporalInformationModified"),
    *("TimezoneOffsetFromUTC", "SpecificCharacterSet"),
)
#: Type 2: present in every object, if need be without a value.
_TYPE_2 = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex"),
    *("StudyDate", "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName"),
)


#: Body parts (PS3.16 Annex L) that have no sides.
_UNPAIRED = frozenset(
    (
        *("HEAD", "BRAIN", "SKULL", "NECK", "CHEST", "ABDOMEN", "PELVIS", "HEART", "LIVER"),
        *("SPINE", "CSPINE", "TSPINE", "LSPINE", "SSPINE", "PROSTATE", "WHOLEBODY", "PANCREAS"),
        *("SPLEEN", "BLADDER", "UTERUS", "STERNUM", "SACRUM", "COCCYX", "AORTA", "HEADNECK"),
    )
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a new object stands among the objects of its analysis."""

    #: What the object is, also the role its UIDs are derived from: ``"segmentation"``.
    role: str
    #: Which of the series of this role, from 0.
    series: int = 0
    #: Instance number within its series, from 1.
    instance: int = 1
    #: At least 9000, so that results stand after what the scanner sent.
    series_number: int
    modality: str
    sop_class_uid: str
    #: Without the leading "AI", which every description gets.
    description: str


def new_object(place: Place, analysis: Analysis, source: Input, origin: Origin) -> Dataset:
    """Return a data set with all that has nothing to do with what it will show.

    Patient and study are those of the source, unchanged; series, instance, equipment and times
    are ours and follow from ``origin`` alone, so that a retry writes the same bytes.
    """
    dataset = _begun(place, source.headers[0], origin)
    dataset.SeriesInstanceUID = series_uid(place.role, analysis, origin, index=place.series)
    _identify_contributors(dataset, analysis, origin)
    stand_at(dataset, place, analysis, origin)
    return dataset


def new_note(place: Place, header: Dataset, origin: Origin, *, subject: str) -> Dataset:
    """Return what ``new_object`` does for a document that is of no analysis.

    Parameters
    ----------
    header
        A header of the study that the document belongs to.
    subject
        What it is about, as text: with ``origin`` and the role it decides about its UIDs.
    """
    dataset = _begun(place, header, origin)
    dataset.SeriesInstanceUID = derived_uid(origin, f"{place.role} series {subject}", place.series)
    dataset.ContributingEquipmentSequence = [_node(dataset, origin)]
    dataset.InstanceNumber = place.instance
    role = f"{place.role} {place.series} {subject}"
    dataset.SOPInstanceUID = derived_uid(origin, role, place.instance)
    dataset.file_meta = file_meta(dataset)
    return dataset


def add_model(dataset: Dataset, card: ModelCard, origin: Origin) -> None:
    """Name a model among the equipment that contributed to an object (PS3.3 C.12.1.1.5)."""
    model = _contributor(dataset, origin)
    model.Manufacturer = writable(card.manufacturer or "unknown", dataset)[:64]
    model.ManufacturerModelName = writable(card.name, dataset)[:64]
    # A sha256 in hexadecimal fills the 64 characters of VR LO exactly.
    model.SoftwareVersions = [card.version or "unknown", card.weights_sha256]
    words = f"AI model; second software version is the sha256 of its weights. {card.description}"
    model.ContributionDescription = writable(words, dataset)[:1024].strip()
    dataset.ContributingEquipmentSequence.append(model)


def stand_at(dataset: Dataset, place: Place, analysis: Analysis, origin: Origin) -> None:
    """Give ``dataset`` the instance number and SOP Instance UID of ``place``."""
    dataset.InstanceNumber = place.instance
    dataset.SOPInstanceUID = instance_uid(
        place.role, analysis, origin, series=place.series, instance=place.instance
    )
    dataset.file_meta = file_meta(dataset)


def file_meta(dataset: Dataset) -> FileMetaDataset:
    """Return the file meta information (PS3.10 7.1) of an uncompressed little endian object."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationVersionName = IMPLEMENTATION_VERSION
    return meta


def series_uid(role: str, analysis: Analysis, origin: Origin, *, index: int = 0) -> str:
    """Return the Series Instance UID of a role; other encoders find its objects by it."""
    return derived_uid(origin, f"{role} series {_analysis_key(analysis)}", index)


def instance_uid(
    role: str, analysis: Analysis, origin: Origin, *, series: int = 0, instance: int = 1
) -> str:
    """Return the SOP Instance UID of a role; other encoders find the object by it."""
    return derived_uid(origin, f"{role} {series} {_analysis_key(analysis)}", instance)


def other_uid(role: str, analysis: Analysis, origin: Origin, *, index: int = 0) -> str:
    """Return a UID for what is no object: a tracked region, a dimension organization."""
    return derived_uid(origin, f"{role} of {_analysis_key(analysis)}", index)


def header_of(frame: SourceFrame, source: Input) -> Dataset:
    """Return the source header that a slice's frame belongs to."""
    return next(h for h in source.headers if str(h.SOPInstanceUID) == frame.sop_instance_uid)


def code_item(code: Code) -> Dataset:
    """Return one item of a code sequence (PS3.3 table 8.8-1)."""
    item = Dataset()
    item.CodeValue = code.value
    item.CodingSchemeDesignator = code.scheme
    item.CodeMeaning = code.meaning
    return item


def referenced_series(source: Input, frames: Iterable[SourceFrame]) -> Dataset:
    """Return an item of ReferencedSeriesSequence (PS3.3 C.12.2.1), each instance once."""
    instances = {frame.sop_instance_uid: frame.sop_class_uid for frame in frames}
    item = Dataset()
    item.SeriesInstanceUID = source.volume.series_instance_uid
    item.ReferencedInstanceSequence = [
        sop_reference(sop_class_uid, uid) for uid, sop_class_uid in instances.items()
    ]
    return item


def sop_reference(sop_class_uid: str, sop_instance_uid: str) -> Dataset:
    """Return a SOP Instance Reference (PS3.3 table 10-11)."""
    item = Dataset()
    item.ReferencedSOPClassUID = sop_class_uid
    item.ReferencedSOPInstanceUID = sop_instance_uid
    return item


def source_image(frame: SourceFrame) -> Dataset:
    """Return an item of SourceImageSequence (PS3.3 table 10-3 and C.7.6.16.2.6) for one frame."""
    item = sop_reference(frame.sop_class_uid, frame.sop_instance_uid)
    if frame.frame_number is not None:
        item.ReferencedFrameNumber = frame.frame_number
    item.PurposeOfReferenceCodeSequence = [code_item(SOURCE_IMAGE)]
    item.SpatialLocationsPreserved = "YES"
    return item


def inherit_image_quality(dataset: Dataset, header: Dataset) -> None:
    """Say of an image what its source makes true of it: lossy compression and body part.

    Notes
    -----
    PS3.3 C.7.6.1.1.5: what was compressed with loss once stays so, also in derived images.
    """
    dataset.LossyImageCompression = header.get("LossyImageCompression") or "00"
    for keyword in (
        *("LossyImageCompressionRatio", "LossyImageCompressionMethod", "BodyPartExamined"),
        *("AnatomicRegionSequence", "ImageLaterality", "RecognizableVisualFeatures"),
    ):
        _copy(header, dataset, keyword)


def inherit_laterality(dataset: Dataset, header: Dataset) -> None:
    """Say which side a capture shows, of a source that says it, or that it is not known.

    Notes
    -----
    PS3.3 C.7.3.1, type 2C: empty where a side may matter and is unknown, absent where there is
    none. Objects that are no plain images must not carry it.
    """
    _copy(header, dataset, "Laterality")
    part = str(dataset.get("BodyPartExamined", "")).upper()
    known = "Laterality" in dataset or "ImageLaterality" in dataset
    if not known and part not in _UNPAIRED:
        dataset.Laterality = ""


def identify_private_scheme(dataset: Dataset) -> None:
    """Say what 99PELLUCID is wherever it occurs (PS3.3 C.12.1.1.1)."""
    if PRIVATE_SCHEME not in _schemes(dataset):
        return
    item = Dataset()
    item.CodingSchemeDesignator = PRIVATE_SCHEME
    item.CodingSchemeName = PRIVATE_SCHEME_NAME
    item.CodingSchemeResponsibleOrganization = MANUFACTURER
    dataset.CodingSchemeIdentificationSequence = [item]


def writable(text: str, dataset: Dataset) -> str:
    """Return ``text`` as the character set of ``dataset`` can hold it.

    The source's character set is kept because the patient's name is written in it; what of our
    own words does not fit loses its accents, or becomes a question mark.
    """
    character_set = dataset.get("SpecificCharacterSet") or "ISO_IR 6"
    for encoding in convert_encodings(character_set):
        try:
            text.encode("ascii" if encoding == "iso8859" else encoding)
        except UnicodeEncodeError:
            continue
        return text
    decomposed = unicodedata.normalize("NFKD", text)
    plain = "".join(letter for letter in decomposed if not unicodedata.combining(letter))
    return plain.encode("ascii", "replace").decode()


def _begun(place: Place, header: Dataset, origin: Origin) -> Dataset:
    dataset = Dataset()
    _inherit(dataset, header)
    dataset.SOPClassUID = place.sop_class_uid
    dataset.Modality = place.modality
    dataset.SeriesNumber = place.series_number
    dataset.SeriesDescription = writable(f"AI {place.description}", dataset)[:64].rstrip()
    _identify_equipment(dataset, origin)
    dataset.ContentQualification = "PRODUCT" if origin.mode == "clinical" else "RESEARCH"
    _date(dataset, origin)
    return dataset


def _inherit(dataset: Dataset, header: Dataset) -> None:
    for keyword in INHERITED:
        if keyword in header:
            dataset[keyword] = copy.deepcopy(header[keyword])
    for keyword in _TYPE_2:
        if keyword not in dataset:
            setattr(dataset, keyword, "")
    methods = ("DeidentificationMethod", "DeidentificationMethodCodeSequence")
    if dataset.get("PatientIdentityRemoved") == "YES" and not any(map(dataset.get, methods)):
        # Type 1C: a source that forgot it would make every one of our objects invalid.
        dataset.DeidentificationMethod = "not stated by the source"


def _identify_equipment(dataset: Dataset, origin: Origin) -> None:
    site = origin.site
    dataset.Manufacturer = MANUFACTURER
    dataset.ManufacturerModelName = MODEL_NAME
    dataset.SoftwareVersions = origin.software_version
    # Type 1 of Enhanced General Equipment (PS3.3 C.7.5.2): the Device UID is unique as well.
    dataset.DeviceSerialNumber = writable(site.device_serial_number or site.device_uid, dataset)
    dataset.DeviceUID = site.device_uid
    dataset.StationName = site.ae_title
    dataset.InstanceCreatorUID = site.device_uid
    if site.institution:
        dataset.InstitutionName = writable(site.institution, dataset)[:64]


def _identify_contributors(dataset: Dataset, analysis: Analysis, origin: Origin) -> None:
    node = _node(dataset, origin)
    node.ContributionDescription = "ran the model, explained and measured its answer"
    dataset.ContributingEquipmentSequence = [node]
    add_model(dataset, analysis.model, origin)


def _node(dataset: Dataset, origin: Origin) -> Dataset:
    item = _contributor(dataset, origin)
    item.Manufacturer = MANUFACTURER
    item.ManufacturerModelName = MODEL_NAME
    item.SoftwareVersions = origin.software_version
    return item


def _contributor(dataset: Dataset, origin: Origin) -> Dataset:
    item = Dataset()
    item.PurposeOfReferenceCodeSequence = [code_item(PROCESSING_EQUIPMENT)]
    item.DeviceUID = origin.site.device_uid
    item.StationName = origin.site.ae_title
    if origin.site.institution:
        item.InstitutionName = writable(origin.site.institution, dataset)[:64]
    item.ContributionDateTime = DT(origin.created)
    return item


def _date(dataset: Dataset, origin: Origin) -> None:
    created = origin.created
    # The source's offset holds for every date and time of the object (PS3.3 C.12.1.1.8).
    if dataset.get("TimezoneOffsetFromUTC"):
        created = created.astimezone(
            datetime.strptime(dataset.TimezoneOffsetFromUTC.strip(), "%z").tzinfo
        )
    for prefix in ("InstanceCreation", "Content", "Series"):
        setattr(dataset, f"{prefix}Date", DA(created.date()))
        setattr(dataset, f"{prefix}Time", TM(created.time()))


def _copy(header: Dataset, dataset: Dataset, keyword: str) -> None:
    if header.get(keyword):
        dataset[keyword] = copy.deepcopy(header[keyword])


def _schemes(dataset: Dataset) -> set[str]:
    found: set[str] = set()
    pending: list[Dataset] = [dataset]
    while pending:
        item = pending.pop()
        found.add(str(item.get("CodingSchemeDesignator", "")))
        for element in item:
            if element.VR == "SQ" and element.keyword != "CodingSchemeIdentificationSequence":
                pending.extend(element.value)
    return found


def _analysis_key(analysis: Analysis) -> str:
    """Name the analysis within its task: what ran, on which input, explained how."""
    card = analysis.model
    words: Sequence[str] = [
        *(card.name, card.version, card.weights_sha256, analysis.input_name),
        *(finding.label for finding in analysis.findings),
        *(segment.label for segment in analysis.segments),
    ]
    explained = [
        f"{e.target}|{e.against}|{e.method}|{e.layer}|{e.baseline}|{sorted(e.parameters.items())}"
        for e in analysis.explanations
    ]
    explained += [
        f"failed|{e.target}|{e.against}|{e.method}|{sorted(e.parameters.items())}"
        for e in analysis.failures
    ]
    return hashlib.sha256("\x1f".join([*words, *explained]).encode()).hexdigest()
