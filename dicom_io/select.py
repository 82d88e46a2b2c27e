"""Which series of a study a route works on."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pydicom.datadict import tag_for_keyword

from dicom_io.errors import AmbiguousSelectionError, NonConformantError
from dicom_io.sop_classes import ImageKind, image_kind
from dicom_io.study import Instance, Series, Study

#: Text (a regular expression), ``[lowest, highest]``, or several texts of which one must match.
Condition = str | Sequence[str] | Sequence[float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Selector:
    """A named ``select`` entry: DICOM keyword to the condition that its value must meet.

    - A text is a regular expression that must match a whole value, in upper or lower case;
      of several values (``ImageType``) one must match.
    - ``"!text"`` excludes: no value may match. An absent attribute is not excluded.
    - ``[lowest, highest]`` are numbers: every value must lie between them, ends included.
    - A list of texts asks for any of them; its ``"!"`` entries all exclude.

    Exclusions drop single instances (localizers within a series of slices); what remains must
    meet the other conditions instance by instance. A stack that meets them only in part is not
    selected, because part of a stack is another image. Images that stand alone (radiographs,
    photographs) are selected one by one.

    Raises
    ------
    ValueError
        If a keyword is not in the DICOM dictionary, an expression is none, or a range is empty.
    """

    name: str
    conditions: Mapping[str, Condition]

    def __post_init__(self) -> None:
        for keyword, condition in self.conditions.items():
            _require_sound(keyword, condition)


#: Takes the one image series of a study, whatever it is.
ANY_IMAGE = Selector(name="image", conditions={})


def matching_series(study: Study, selector: Selector) -> tuple[Series, ...]:
    """Return every image series that the selector takes, each without its excluded instances.

    What cannot be read of an instance that does not conform counts as what is asked for: a series
    must not lose it silently.
    """
    found = (_selected(series, selector.conditions) for series in study.series)
    return tuple(series for series in found if series is not None)


def select_series(study: Study, selector: Selector) -> Series | None:
    """Return the one series that the selector takes, without its excluded instances, or None.

    Raises
    ------
    NonConformantError
        If it takes an instance that does not conform.
    AmbiguousSelectionError
        If it takes several: the series of most images, or the first, is not always the right
        one, so the rule has to say more.
    """
    found = matching_series(study, selector)
    for series in found:
        _require_conformant(series)
    if len(found) > 1:
        listed = ", ".join(f"{s.series_instance_uid} ({len(s.instances)})" for s in found)
        raise AmbiguousSelectionError(
            f"study {study.study_instance_uid}: select entry {selector.name!r} takes "
            f"{len(found)} series, expected 1: {listed} (instances); "
            "add a condition that tells them apart, such as SeriesDescription or SliceThickness"
        )
    return found[0] if found else None


def _require_conformant(series: Series) -> None:
    wrong = [each for each in series.instances if each.nonconformance]
    if wrong:
        raise NonConformantError(
            f"series {series.series_instance_uid}: {len(wrong)} of {len(series.instances)} images "
            f"are damaged, the first in this way: {wrong[0].nonconformance}"
        )


def _selected(series: Series, conditions: Mapping[str, Condition]) -> Series | None:
    images = [i for i in series.instances if image_kind(i.sop_class_uid) is not None]
    kept = [i for i in images if not _excluded(i, conditions)]
    matching = tuple(i for i in kept if _meets(i, conditions))
    if not matching:
        return None
    stacked = any(image_kind(i.sop_class_uid) is not ImageKind.PLANAR for i in kept)
    if stacked and len(matching) < len(kept):
        return None
    return Series(series_instance_uid=series.series_instance_uid, instances=matching)


def _excluded(instance: Instance, conditions: Mapping[str, Condition]) -> bool:
    return any(
        _any_match(_values(instance, keyword), (pattern[1:],))
        for keyword, condition in conditions.items()
        for pattern in _texts(condition)
        if pattern.startswith("!")
    )


def _meets(instance: Instance, conditions: Mapping[str, Condition]) -> bool:
    return all(
        _meets_one(_values(instance, keyword), condition)
        for keyword, condition in conditions.items()
        if keyword in instance.tags or not instance.nonconformance
    )


def _meets_one(values: list[str], condition: Condition) -> bool:
    bounds = _range(condition)
    if bounds is not None:
        numbers = [_number(value) for value in values]
        return bool(numbers) and all(n is not None and bounds[0] <= n <= bounds[1] for n in numbers)
    wanted = [pattern for pattern in _texts(condition) if not pattern.startswith("!")]
    return not wanted or _any_match(values, wanted)


def _any_match(values: Iterable[str], patterns: Iterable[str]) -> bool:
    compiled = [re.compile(pattern, re.IGNORECASE) for pattern in patterns]
    return any(expression.fullmatch(value) for value in values for expression in compiled)


def _values(instance: Instance, keyword: str) -> list[str]:
    text = instance.tags.get(keyword, "")
    return text.split("\\") if text else []


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _texts(condition: Condition) -> list[str]:
    if isinstance(condition, str):
        return [condition]
    return [entry for entry in condition if isinstance(entry, str)]


def _range(condition: Condition) -> tuple[float, float] | None:
    if isinstance(condition, str) or any(isinstance(entry, str) for entry in condition):
        return None
    lowest, highest = (float(entry) for entry in condition)
    return lowest, highest


def _require_sound(keyword: str, condition: Condition) -> None:
    if tag_for_keyword(keyword) is None:
        raise ValueError(f"{keyword} is not a keyword of the DICOM dictionary (PS3.6)")
    texts = _texts(condition)
    if not isinstance(condition, str) and len(texts) not in (0, len(condition)):
        raise ValueError(f"{keyword}: a list holds texts or two numbers, not both")
    for pattern in texts:
        try:
            re.compile(pattern.removeprefix("!"))
        except re.error as error:
            raise ValueError(f"{keyword}: {pattern!r} is no regular expression: {error}") from error
    if not texts:
        if len(condition) != 2:
            raise ValueError(f"{keyword}: a range has two numbers, got {len(condition)}")
        bounds = _range(condition)
        if bounds is not None and not bounds[0] <= bounds[1]:
            raise ValueError(f"{keyword}: the range {list(condition)} is empty")
