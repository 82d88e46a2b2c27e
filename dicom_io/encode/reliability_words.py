"""Sentences on how far a diagnosis can be trusted, in words for a radiologist."""

from dicom_io.analysis import Analysis, Certainty, Familiarity, Finding
from dicom_io.codes import (
    ANSWER_ABSENT,
    ANSWER_NONE,
    ANSWER_OPEN,
    ANSWER_PRESENT,
    Code,
)

#: What stands before everything else where the image is strange to the model.
DO_NOT_RELY = (
    "DO NOT RELY ON THIS RESULT: the image is unlike those that the model was validated on"
)


def probability_name(finding: Finding) -> str:
    """Return what the probability is: ``calibrated probability``."""
    return "calibrated probability" if finding.calibrated else "probability"


def certainty_text(certainty: Certainty) -> str:
    """Return which answers remain: ``BOTH ANSWERS POSSIBLE at the 90 % level``.

    None remains where neither is as probable as right ones used to be, as happens to a model that
    is right more often than the level asks: that is no contradiction, but no certainty either.
    """
    level = f"at the {_percent(certainty.level)} level"
    if certainty.is_single:
        return f"one answer possible {level}: {'present' if certainty.present else 'not present'}"
    return f"{'BOTH ANSWERS POSSIBLE' if certainty.present else 'NO CERTAIN ANSWER'} {level}"


def answers_code(certainty: Certainty) -> Code:
    """Return the concept of the answers that remain."""
    if certainty.is_single:
        return ANSWER_PRESENT if certainty.present else ANSWER_ABSENT
    return ANSWER_OPEN if certainty.present else ANSWER_NONE


def familiarity_text(familiarity: Familiarity) -> str:
    """Return whether the image is familiar, and how far it is from what is."""
    far = _held("distance", familiarity.distance, familiarity.distance_limit)
    vague = _held("energy", familiarity.energy, familiarity.energy_limit)
    if familiarity.is_familiar:
        return f"The image is like those that the model was validated on ({far}; {vague})."
    return f"{DO_NOT_RELY} ({far}; {vague}). No heatmap was made."


def reliability_texts(analysis: Analysis) -> tuple[str, ...]:
    """Return how far the findings of an analysis can be trusted; nothing if there are none."""
    if not analysis.findings:
        return ()
    if analysis.familiarity is None:
        return (
            "Not assessed: nothing was fitted to this model that tells how far its probabilities "
            "can be trusted, or whether the image is like those that it was validated on.",
        )
    said = [familiarity_text(analysis.familiarity)]
    if all(finding.calibrated for finding in analysis.findings):
        said.append(
            "Probabilities are calibrated: they were held against cases of known diagnosis."
        )
    levels = {f.certainty.level for f in analysis.findings if f.certainty is not None}
    said += [
        f"A level of {_percent(level)} means: in so many of images like those the right answer is "
        "among the possible ones."
        for level in sorted(levels)
    ]
    return tuple(said)


def _held(name: str, value: float, limit: float) -> str:
    """Return a value and its limit, with as few digits as tell them apart."""
    for digits in range(3, 16):
        said, asked = f"{value:.{digits}g}", f"{limit:.{digits}g}"
        if said != asked or value == limit:
            break
    return f"{name} {said}, at most {asked} is familiar"


def _percent(share: float) -> str:
    return f"{share * 100:.6g} %"
