"""Which explainer a model's routes get that name none, and why that one."""

from collections.abc import Sequence
from dataclasses import dataclass

from ai.card.cases import CONTROLS
from ai.card.figures import ExplainerFigures, paired_difference, values_of
from ai.card.records import CaseRecord
from ai.card.words import shown_name

#: Maps that remain so alike while the network forgets all it learned do not show the network.
MOST_ALIKE = 0.9
#: Maps that are less alike than this when the image hardly changes are not to be relied on.
LEAST_STABLE = 0.7
#: Times that differ by less than this factor, or lie below so many seconds, are the same.
SAME_TIME, NO_TIME_SECONDS = 1.5, 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The default explainer, as it was asked for, and the reasons."""

    #: Name of the candidate; empty if none can be recommended.
    name: str
    #: The measure that decided: ``mass`` or ``comprehensiveness``.
    by: str
    #: Whether its interval lies above those of all three controls.
    beats_controls: bool
    #: In plain words, one sentence each.
    reasons: tuple[str, ...]


def chosen(
    records: Sequence[CaseRecord], figures: Sequence[ExplainerFigures], *, seed: int
) -> Choice:
    """Return the explainer to take by default.

    Where the place of enough structures is known it is the one with most of its relevance there,
    if that beats all three controls with intervals that do not overlap; else the one whose region
    matters most to the model. Of several that do not differ from the best by more than chance, the
    cheapest. A method whose maps hardly change when the network forgets what it learned, or change
    much when the image hardly does, is no candidate.
    """
    made = [each for each in figures if not each.is_control and each.maps]
    remarks = [remark for each in made if (remark := _left_out(each))]
    seeing = [each for each in made if not _left_out(each)]
    for measure in ("mass", "comprehensiveness"):
        ranked = sorted(
            (each for each in seeing if measure in each.measures),
            key=lambda each: -each.measures[measure].estimate,
        )
        beating = [each for each in ranked if beats_controls(each, figures, measure)]
        if beating:
            return _cheapest(beating, records, measure, remarks, seed=seed)
        if ranked:
            remarks.append(
                f"No method beats all three controls by {_WORDS[measure]} with 95 % intervals "
                "that do not overlap."
            )
    if not seeing:
        remarks.append(
            "No method gave maps that are stable and depend on what the network learned."
        )
    return Choice(name="", by="", beats_controls=False, reasons=tuple(remarks))


_WORDS = {
    "mass": "the share of their relevance that lies in the truth",
    "comprehensiveness": "how much the region that they point at matters to the model",
}


def beats_controls(
    one: ExplainerFigures, figures: Sequence[ExplainerFigures], measure: str
) -> bool:
    """Whether a method's interval lies above those of all three controls."""
    controls = [each.measures.get(measure) for each in figures if each.name in CONTROLS]
    own = one.measures.get(measure)
    return own is not None and all(each is not None and own.is_above(each) for each in controls)


def _cheapest(
    beating: Sequence[ExplainerFigures],
    records: Sequence[CaseRecord],
    measure: str,
    remarks: Sequence[str],
    *,
    seed: int,
) -> Choice:
    """Return the cheapest of those that chance alone may part from the best."""
    best = beating[0]
    of_best = values_of(records, best.name, measure)
    equal = [best]
    for each in beating[1:]:
        difference = paired_difference(of_best, values_of(records, each.name, measure), seed=seed)
        if difference is not None and difference.low <= 0.0:
            equal.append(each)
    most = max(SAME_TIME * min(_seconds(each) for each in equal), NO_TIME_SECONDS)
    cheapest = next(each for each in equal if _seconds(each) <= most)
    own = cheapest.measures[measure]
    reasons = [
        f"{shown_name(cheapest.name)} beats all three controls by {_WORDS[measure]}: "
        f"{own.estimate:.2f} (95 % interval {own.low:.2f} to {own.high:.2f})."
    ]
    if cheapest is not best:
        reasons.append(
            f"{shown_name(best.name)} has {best.measures[measure].estimate:.2f}, which chance may "
            f"explain, and takes {_seconds(best):.2g} s instead of {_seconds(cheapest):.2g} s."
        )
    return Choice(name=cheapest.name, by=measure, beats_controls=True, reasons=(*reasons, *remarks))


def _left_out(each: ExplainerFigures) -> str:
    """Return why a method is no candidate; empty if it is one."""
    name = shown_name(each.name)
    if each.randomization is not None and each.randomization.smprt >= MOST_ALIKE:
        return (
            f"{name} is left out: its maps remain {each.randomization.smprt:.2f} alike when the "
            f"network forgets what it learned, {MOST_ALIKE} or more are too alike."
        )
    stability = each.measures.get("stability")
    if stability is not None and stability.estimate < LEAST_STABLE:
        return (
            f"{name} is left out: its maps are {stability.estimate:.2f} alike when the image "
            f"hardly changes, {LEAST_STABLE} or more are asked."
        )
    return ""


def _seconds(each: ExplainerFigures) -> float:
    return each.costs.seconds if each.costs else 0.0
