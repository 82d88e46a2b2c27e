"""Entries of ``select`` in a route to selectors."""

from collections.abc import Mapping

from dicom_io.select import Selector
from node.problems import nearest

#: Keywords that routes use most; only to guess what a misspelt one was meant to be.
_USUAL = (
    "AcquisitionNumber", "BodyPartExamined", "ContrastBolusAgent", "ConvolutionKernel",
    "EchoTime", "ImageType", "InstitutionName", "KVP", "Laterality", "MRAcquisitionType",
    "MagneticFieldStrength", "Manufacturer", "ManufacturerModelName", "Modality",
    "PatientPosition", "ProtocolName", "RepetitionTime", "ScanningSequence", "SequenceName",
    "SeriesDescription", "SeriesNumber", "SliceThickness", "SpacingBetweenSlices",
    "StationName", "StudyDescription", "ViewPosition",
)  # fmt: skip


def selector_from_table(table: object) -> Selector:
    """Return the selector that ``{ name = "t1", Modality = "MR", ... }`` describes.

    Raises
    ------
    ValueError
        With everything that is wrong with the table.
    """
    if not isinstance(table, Mapping):
        # pydantic, which calls this, takes a ValueError for a mistake and a TypeError for a bug.
        raise ValueError(f"{table!r} is no table {{ name = ..., Keyword = ... }}")  # noqa: TRY004
    name = table.get("name")
    conditions = {key: value for key, value in table.items() if key != "name"}
    mistakes = [mistake for item in conditions.items() for mistake in _mistakes(*item)]
    if not isinstance(name, str) or not name.strip():
        mistakes.insert(0, "name is missing, a text")
    if mistakes:
        raise ValueError("; ".join(mistakes))
    return Selector(
        name=str(name),
        conditions={
            keyword: tuple(condition) if isinstance(condition, list) else condition
            for keyword, condition in conditions.items()
        },
    )


def keyword_mistake(keyword: str) -> str:
    """Return what is wrong with a DICOM keyword, or empty text."""
    try:
        Selector(name=keyword, conditions={keyword: ""})
    except ValueError as error:
        return f"{error}{nearest(keyword, _USUAL) if len(keyword) > 3 else ''}"
    return ""


def _mistakes(keyword: str, condition: object) -> list[str]:
    if mistake := keyword_mistake(keyword):
        return [mistake]
    if isinstance(condition, bool) or not isinstance(condition, str | list):
        return [f"{keyword}: {condition!r} is neither a text, nor [lowest, highest], nor texts"]
    if isinstance(condition, list) and not _is_uniform(condition):
        return [f"{keyword}: {condition!r} is neither [lowest, highest] nor a list of texts"]
    try:
        Selector(name=keyword, conditions={keyword: condition})
    except ValueError as error:
        return [str(error)]
    return []


def _is_uniform(entries: list[object]) -> bool:
    texts = all(isinstance(entry, str) for entry in entries)
    numbers = all(isinstance(e, int | float) and not isinstance(e, bool) for e in entries)
    return bool(entries) and (texts or numbers)
