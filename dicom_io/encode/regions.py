"""Where to look: of each finding and structure, one box on the slice that shows it best."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from dicom_io.analysis import Analysis, Explanation, Finding, Segment
from dicom_io.codes import MORPHOLOGICALLY_ABNORMAL, SPATIAL_CONCEPT, segment_category
from dicom_io.encode.released import released_explanations
from dicom_io.grade import Grade, grade_of
from dicom_io.paint import OUTLINE, key_slice, relevance_peak, summed
from dicom_io.volume import Volume

#: Structures that have to be looked at. Of anatomy a segmentation says more than fifty boxes.
_WORTH_A_BOX = (MORPHOLOGICALLY_ABNORMAL, SPATIAL_CONCEPT)
_BEST_FIRST = tuple(Grade)

#: With their numbers within the analysis.
_Explanations = tuple[tuple[int, Explanation], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """A rectangle of whole pixels on one slice, edges included."""

    #: Index of the slice within the volume.
    slice: int
    first_row: int
    first_column: int
    last_row: int
    last_column: int
    #: How much of what the slice shows lies within the box, 0 to 1.
    share: float
    #: Whether it is of a heatmap; else of an outline.
    is_evidence: bool

    @property
    def center(self) -> tuple[float, float, float]:
        """Slice, row and column of its middle, for the affine of the volume."""
        middle = (self.first_row + self.last_row) / 2, (self.first_column + self.last_column) / 2
        return float(self.slice), *middle

    @property
    def outline(self) -> tuple[float, ...]:
        """Corners as (column, row) pairs, closed.

        The upper left corner of the first pixel is 0, its center 0.5 (PS3.3 C.18.6.1.2).
        """
        left, top = float(self.first_column), float(self.first_row)
        right, bottom = float(self.last_column + 1), float(self.last_row + 1)
        return (left, top, right, top, right, bottom, left, bottom, left, top)


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """A box, and what it is of: a finding, a structure, or both under one label."""

    box: Box
    #: With its number within the analysis.
    finding: tuple[int, Finding] | None = None
    segment: tuple[int, Segment] | None = None
    #: Why: the explanation to look at comes first.
    explanations: tuple[tuple[int, Explanation], ...] = ()

    @property
    def label(self) -> str:
        """What the model calls it."""
        named = self.finding or self.segment
        return named[1].label if named is not None else ""


def regions_of(analysis: Analysis, volume: Volume) -> tuple[Region, ...]:
    """Return the regions of present findings, then of structures that have to be looked at.

    A finding lies where a structure of the same label was outlined; else where its best released
    heatmap reaches the threshold of the outline. What has neither has no region. Anatomy has one
    only if it was explained: where the evidence for it lies.

    Raises
    ------
    EncodingError
        A heatmap is not on the grid of its source, or holds values that are not finite.
    """
    released = tuple(released_explanations(analysis, volume))
    return (*_of_findings(analysis, released), *_of_structures(analysis, released))


def _of_findings(analysis: Analysis, released: _Explanations) -> Iterator[Region]:
    filled = {s.label: (i, s) for i, s in enumerate(analysis.segments) if s.mask.any()}
    for index, finding in enumerate(analysis.findings):
        if not finding.present:
            continue
        explanations = _best_first(finding.label, released)
        segment = filled.get(finding.label)
        box = mask_box(segment[1].mask) if segment is not None else _evidence_box(explanations)
        if box is not None:
            yield Region(
                box=box, finding=(index, finding), segment=segment, explanations=explanations
            )


def _of_structures(analysis: Analysis, released: _Explanations) -> Iterator[Region]:
    found = {finding.label for finding in analysis.findings if finding.present}
    for index, segment in enumerate(analysis.segments):
        if segment.label in found or not segment.mask.any():
            continue
        explanations = _best_first(segment.label, released)
        worth = segment_category(segment.concept) in _WORTH_A_BOX
        box = mask_box(segment.mask) if worth else _evidence_box(explanations)
        if box is not None:
            yield Region(box=box, segment=(index, segment), explanations=explanations)


def _best_first(label: str, released: _Explanations) -> _Explanations:
    """Return the explanations of a label: for itself before contrasts, then by grade."""
    of_label = [each for each in released if each[1].target == label]
    return tuple(
        sorted(
            of_label,
            key=lambda each: (each[1].against is not None, _BEST_FIRST.index(grade_of(each[1]))),
        )
    )


def _evidence_box(explanations: _Explanations) -> Box | None:
    return hot_box(explanations[0][1]) if explanations else None


def hot_box(explanation: Explanation) -> Box | None:
    """Return the box of the most relevant focus on the key slice, or None without relevance.

    The focus is what the overlay outlines; of several, the one that holds most relevance.
    """
    relevance = summed(explanation.heatmap)
    peak = relevance_peak(relevance)
    if peak <= 0:
        return None
    least = np.float32(round(OUTLINE * 255) * peak / 255.0)
    index = key_slice(explanation.heatmap)
    if not (relevance[index] >= least).any():
        index = int(np.argmax([np.count_nonzero(plane >= least) for plane in relevance]))
    weight = np.maximum(relevance[index], 0.0).astype(np.float64)
    return _box_of_focus(index, relevance[index] >= least, weight, is_evidence=True)


def mask_box(mask: NDArray[np.bool_]) -> Box | None:
    """Return the box of a mask's largest part on the slice that shows most of it."""
    # Plane by plane: ten times as fast as a sum along axes.
    index = int(np.argmax([np.count_nonzero(plane) for plane in mask]))
    return _box_of_focus(index, mask[index], mask[index].astype(np.float64), is_evidence=False)


def _box_of_focus(
    index: int, focus: NDArray[np.bool_], weight: NDArray[np.float64], *, is_evidence: bool
) -> Box | None:
    """Return the box of the connected part that weighs most; diagonal neighbors are connected."""
    if not focus.any():
        return None
    parts, count = ndimage.label(focus, structure=np.ones((3, 3)))
    weights = ndimage.sum_labels(weight, parts, range(1, count + 1))
    rows, columns = ndimage.find_objects(parts)[int(np.argmax(weights))]
    inside = float(weight[rows, columns].sum())
    return Box(
        slice=index,
        first_row=int(rows.start),
        first_column=int(columns.start),
        last_row=int(rows.stop) - 1,
        last_column=int(columns.stop) - 1,
        share=inside / float(weight.sum()),
        is_evidence=is_evidence,
    )
