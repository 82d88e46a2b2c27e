"""All result objects of a task, in a fixed order, each checked before it is handed on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from pydicom import Dataset

from dicom_io.analysis import Analysis
from dicom_io.check import check_references, require_valid
from dicom_io.errors import EncodingError
from dicom_io.origin import Origin
from dicom_io.read import Input

_FIRST = ("segmentation", "bands", "overlay")
#: Documents come last because they refer to all others.
_LAST = ("measurements", "report", "report_basic", "key_objects")


class Encoder(Protocol):
    """What an entry point of ``pellucid.encoders`` names."""

    def __call__(
        self, analysis: Analysis, source: Input, origin: Origin, produced: tuple[Dataset, ...]
    ) -> tuple[Dataset, ...]:
        """Return the objects of one analysis; ``produced`` are those made of it before."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """One object, and which result it is."""

    #: Name of its encoder, as routes use it.
    result: str
    dataset: Dataset


def encode_analyses(
    released: Sequence[Analysis],
    inputs: Sequence[Input],
    origin: Origin,
    encoders: Mapping[str, Encoder],
) -> tuple[Dataset, ...]:
    """Return every object of a task, ready to leave; arguments and errors as ``encode_results``."""
    return tuple(each.dataset for each in encode_results(released, inputs, origin, encoders))


def encode_results(
    released: Sequence[Analysis],
    inputs: Sequence[Input],
    origin: Origin,
    encoders: Mapping[str, Encoder],
) -> tuple[Encoded, ...]:
    """Return every object of a task, ready to leave, with the name of its result.

    Parameters
    ----------
    released
        Analyses after the gate, whose explanations carry verdicts.
    encoders
        By name; the order does not matter, documents are always written last.

    Raises
    ------
    EncodingError
        An analysis names an unknown input, two analyses are the same, or an object does not
        pass its check.
    """
    objects: list[Encoded] = []
    for analysis in released:
        source = _source_of(analysis, inputs)
        produced: tuple[Dataset, ...] = ()
        for name in sorted(encoders, key=_rank):
            made = encoders[name](analysis, source, origin, produced)
            objects += [Encoded(result=name, dataset=dataset) for dataset in made]
            produced += made
        _require_all_valid(produced, source, origin)
    _require_distinct([each.dataset for each in objects])
    return tuple(objects)


def _rank(name: str) -> tuple[int, str]:
    if name in _LAST:
        return len(_FIRST) + 1 + _LAST.index(name), name
    return (_FIRST.index(name) if name in _FIRST else len(_FIRST)), name


def _source_of(analysis: Analysis, inputs: Sequence[Input]) -> Input:
    for source in inputs:
        if source.name == analysis.input_name:
            return source
    names = ", ".join(source.name for source in inputs)
    raise EncodingError(f"analysis names input {analysis.input_name!r}, the task has: {names}")


def _require_all_valid(produced: Sequence[Dataset], source: Input, origin: Origin) -> None:
    known = {frame.sop_instance_uid for frame in source.volume.frames}
    known |= {str(header.SOPInstanceUID) for header in source.headers}
    known |= {str(dataset.get("SOPInstanceUID")) for dataset in produced}
    known |= {each.sop_instance_uid for each in origin.predecessors}
    for dataset in produced:
        require_valid(dataset, source)
        unknown = check_references(dataset, known)
        if unknown:
            raise EncodingError(f"{dataset.SeriesDescription!r} {'; '.join(unknown)}")


def _require_distinct(objects: Sequence[Dataset]) -> None:
    seen: set[str] = set()
    for dataset in objects:
        uid = str(dataset.SOPInstanceUID)
        if uid in seen:
            raise EncodingError(f"two objects have SOP Instance UID {uid}: same analysis twice")
        seen.add(uid)
