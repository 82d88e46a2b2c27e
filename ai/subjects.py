"""What was found in an image and can be explained, and the number that stands for it."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from ai.model import Model, Prepared, Target
from ai.prepare import mask_to_prepared_grid
from ai.targets import ClassLogit, LogitMargin, RegionMargin, SegmentMass
from ai.window import View
from dicom_io.analysis import Finding, Segment


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """Something found that can be explained."""

    label: str
    channel: int
    #: bool [*S] on the prepared grid, of a segment.
    mask: Tensor | None = None


def subjects_of(
    findings: Sequence[Finding],
    segments: Sequence[Segment],
    prepared: Prepared,
    model: Model,
) -> tuple[Subject, ...]:
    """Return what was found, the foremost first; equals stay in the order of the labels."""
    channels = {label.name: label.channel for label in model.labels}
    present = sorted((f for f in findings if f.present), key=lambda f: -f.probability)
    outlined = sorted(segments, key=lambda s: -int(s.mask.sum()))
    classes = [Subject(label=f.label, channel=channels[f.label]) for f in present]
    masses = [
        Subject(
            label=s.label,
            channel=channels[s.label],
            mask=mask_to_prepared_grid(s.mask, prepared),
        )
        for s in outlined
    ]
    return (*classes, *masses)


def target_of(subject: Subject, view: View, *, against: int | None = None) -> Target:
    """Return what is explained of a subject: its logit or its mass, or the lead over another's.

    Parameters
    ----------
    against
        Channel of the other; None: the subject for itself.
    """
    if subject.mask is None:
        alone = ClassLogit(subject.channel)
        return alone if against is None else LogitMargin(subject.channel, against)
    mask = view.seen(subject.mask)
    if against is None:
        return SegmentMass(subject.channel, mask)
    return RegionMargin(subject.channel, against, mask)


def window_warning(subject: Subject, view: View) -> tuple[str, ...]:
    """Return a sentence if only a part of the image is explained, the part that a view shows."""
    if view.is_whole:
        return ()
    size = " x ".join(str(each) for each in view.tensor.shape[2:])
    if subject.mask is None:
        return (f"explained in one window of {size} voxels in the middle of the image",)
    share = float(view.seen(subject.mask).sum()) / float(subject.mask.sum())
    return (f"explained in one window of {size} voxels that holds {share:.0%} of the segment",)
