"""What is kept of one case: numbers, never a map. One line of JSON each."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class MapRecord:
    """What was measured of one map of one case."""

    #: Of the candidate, or of the control.
    name: str
    #: Name of a measure to its value; what could not be measured is not there.
    measures: Mapping[str, float] = field(default_factory=dict)
    #: The target's value as the most relevant cells come, [K + 1]; empty where not asked.
    insertion: tuple[float, ...] = ()
    #: And as they go.
    deletion: tuple[float, ...] = ()
    layer: str | None = None
    #: Wall-clock time and passes beyond the prediction.
    seconds: float = 0.0
    forwards: float = 0.0
    backwards: float = 0.0
    #: Estimated by the method itself; 0 where it says nothing.
    peak_bytes: int = 0
    warnings: tuple[str, ...] = ()
    #: Why there is no map; empty if there is one.
    problem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RandomizationRecord:
    """What became of a method's map as the network forgot what it learned."""

    name: str
    #: NaN where the maps of strangers say nothing.
    emprt: float
    #: The last module that each stage randomizes.
    modules: tuple[str, ...]
    #: Rank correlation with the map before, [K].
    similarity: tuple[float, ...]
    problem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseRecord:
    """Everything that the card needs of one case."""

    #: Of image, truth, model and settings: a record of another key is another's.
    key: str
    #: Series Instance UID.
    case: str
    #: Why nothing could be made of it; empty if something could.
    problem: str = ""
    modality: str = ""
    shape: tuple[int, ...] = ()
    #: Slice, row, column, mm; empty without a place.
    spacing_mm: tuple[float, ...] = ()
    #: The network's output of a classifier; empty for a segmenter.
    logits: tuple[float, ...] = ()
    probabilities: Mapping[str, float] = field(default_factory=dict)
    #: Of the deepest layer, for what is strange; empty where there are none.
    features: tuple[float, ...] = ()
    #: Label to whether it is there, as far as it is known.
    truth: Mapping[str, bool] = field(default_factory=dict)
    #: Label to the overlap of what was outlined with the truth.
    dice: Mapping[str, float] = field(default_factory=dict)
    #: What was explained; empty if nothing was.
    target: str = ""
    #: Whether the place of the target is known.
    is_placed: bool = False
    #: Whether the model found the target.
    is_found: bool = False
    maps: tuple[MapRecord, ...] = ()
    randomization: tuple[RandomizationRecord, ...] = ()
    prediction_seconds: float = 0.0
    seconds: float = 0.0

    def map_of(self, name: str) -> MapRecord | None:
        """Return what was measured of one map, if that was made."""
        return next((each for each in self.maps if each.name == name and not each.problem), None)


def to_line(record: CaseRecord) -> str:
    """Return a record as one line of JSON."""
    return json.dumps(asdict(record), separators=(",", ":"))


def from_line(line: str) -> CaseRecord:
    """Return the record that ``to_line`` wrote.

    Raises
    ------
    ValueError, TypeError, KeyError
        If the line is none, as where a disk was full.
    """
    found: dict[str, Any] = json.loads(line)
    maps = tuple(
        replace(
            MapRecord(**each),
            insertion=tuple(each["insertion"]),
            deletion=tuple(each["deletion"]),
            warnings=tuple(each["warnings"]),
        )
        for each in found.pop("maps")
    )
    randomization = tuple(
        replace(
            RandomizationRecord(**each),
            modules=tuple(each["modules"]),
            similarity=tuple(each["similarity"]),
        )
        for each in found.pop("randomization")
    )
    listed = {key: tuple(value) for key, value in found.items() if isinstance(value, list)}
    return CaseRecord(**{**found, **listed}, maps=maps, randomization=randomization)
