"""What the truth says of each label of a model: whether it is there, and where."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ai.model import Label
from dicom_io.errors import TruthError
from dicom_io.truth.regions import Region

Mask = NDArray[np.bool_]


def masks_by_label(regions: Sequence[Region], labels: Sequence[Label]) -> dict[str, Mask]:
    """Return where each label is, of those that were outlined; several regions are one mask.

    A region is a label's if their codes are the same, or it is called like the label; a number of
    a NIfTI label map is the network's channel. Where the model has one label and the truth one
    kind of region, they belong together whatever they are called.

    Raises
    ------
    TruthError
        If a region is none of the labels; the message lists both.
    """
    kinds = {(each.label, each.concept, each.value) for each in regions}
    found: dict[str, Mask] = {}
    for region in regions:
        label = labels[0] if len(labels) == 1 and len(kinds) == 1 else _label_of(region, labels)
        if label is None:
            known = ", ".join(f"{each.name} (channel {each.channel})" for each in labels)
            raise TruthError(f"the truth outlines {region.name}; the model knows {known}")
        mask = region.mask
        found[label.name] = found[label.name] | mask if label.name in found else mask
    return {name: mask for name, mask in found.items() if mask.any()}


def presence(
    masks: Mapping[str, Mask],
    listed: Mapping[str, bool],
    labels: Sequence[Label],
    *,
    has_files: bool,
) -> dict[str, bool]:
    """Return which labels are there and which are not, as far as that is known.

    What is outlined is there. What is not outlined is absent if the table says so; or if the model
    has one label and a truth without it exists.

    Raises
    ------
    TruthError
        If the table names a label that the model does not have, or denies what is outlined.
    """
    names = {label.name.casefold(): label.name for label in labels}
    known: dict[str, bool] = dict.fromkeys(masks, True)
    if has_files and len(labels) == 1:
        known.setdefault(labels[0].name, False)
    for name, value in listed.items():
        label = names.get(name.casefold())
        if label is None:
            raise TruthError(
                f"the table of labels names {name!r}; the model knows {', '.join(names.values())}"
            )
        if label in masks and not value:
            raise TruthError(f"the table of labels denies {label!r}, and a file outlines it")
        known[label] = value
    return known


def dice(one: Mask, other: Mask) -> float:
    """Return the overlap of two masks, 0 to 1 (Dice 1945); 1 if both are empty."""
    total = int(one.sum()) + int(other.sum())
    return 2.0 * int((one & other).sum()) / total if total else 1.0


def _label_of(region: Region, labels: Sequence[Label]) -> Label | None:
    if region.concept is not None:
        code = (region.concept.value, region.concept.scheme)
        for label in labels:
            if (label.concept.value, label.concept.scheme) == code:
                return label
    words = {region.label.casefold()} - {""}
    words |= {region.concept.meaning.casefold()} - {""} if region.concept else set()
    for label in labels:
        if {label.name.casefold(), label.concept.meaning.casefold()} & words:
            return label
    if not words:
        return next((label for label in labels if label.channel == region.value), None)
    return None
