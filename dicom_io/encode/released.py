"""Which explanations may be shown, and that their heatmaps can be shown truly."""

from collections.abc import Iterator

import numpy as np

from dicom_io.analysis import Analysis, Explanation, Verdict
from dicom_io.errors import EncodingError
from dicom_io.paint import key_slice
from dicom_io.volume import Volume


def released_explanations(analysis: Analysis, volume: Volume) -> Iterator[tuple[int, Explanation]]:
    """Yield the explanations that were not withheld, with their number within the analysis.

    Raises
    ------
    EncodingError
        A heatmap is not on the grid of its source, or holds values that are not finite.
    """
    for index, explanation in enumerate(analysis.explanations):
        if explanation.verdict is not Verdict.WITHHELD:
            _require_true(explanation, volume)
            yield index, explanation


def flagged_slices(analysis: Analysis, volume: Volume) -> tuple[int, ...]:
    """Return, ascending, the slices where most of each released heatmap and outline lies.

    Raises
    ------
    EncodingError
        As ``released_explanations``.
    """
    shown = released_explanations(analysis, volume)
    slices = {key_slice(e.heatmap) for _, e in shown if (e.heatmap.relevance > 0).any()}
    slices |= {
        int(segment.mask.sum(axis=(1, 2)).argmax())
        for segment in analysis.segments
        if segment.mask.any()
    }
    return tuple(sorted(slices))


def _require_true(explanation: Explanation, volume: Volume) -> None:
    relevance = explanation.heatmap.relevance
    name = f"heatmap of {explanation.target!r} by {explanation.method}"
    if relevance.ndim != 4 or relevance.shape[1:] != volume.grid_shape:
        raise EncodingError(
            f"{name} has shape {relevance.shape}, its source {volume.series_instance_uid} has "
            f"{volume.grid_shape} after the channel"
        )
    broken = relevance.size - int(np.count_nonzero(np.isfinite(relevance)))
    if broken:
        raise EncodingError(f"{name} has {broken} values that are not finite numbers")
