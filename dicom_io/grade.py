"""How far an explanation may be relied on, as one letter: from its verdict and checks alone."""

from enum import StrEnum

from dicom_io.analysis import Explanation, Verdict

#: Without them a heatmap may show something else than what the model used.
_FAITHFUL = frozenset({"comprehensiveness", "specificity", "residual"})
#: What has to be among the checks that were passed for the best grade.
_THOROUGH = frozenset({"comprehensiveness", "stability"})


class Grade(StrEnum):
    """From A, the best, to D; or none."""

    #: All checks were passed, among them those of what the model used and of stability.
    A = "A"
    #: All checks were passed, but not all were made: some methods cost too much to repeat.
    B = "B"
    #: One check failed: to be read with care.
    C = "C"
    #: The heatmap may not show what the model used for this, several checks failed, or it is
    #: withheld.
    D = "D"
    #: Nothing was measured.
    NONE = "not measured"


def grade_of(explanation: Explanation) -> Grade:
    """Return the grade of an explanation that the gate has judged."""
    if explanation.verdict is None:
        return Grade.NONE
    if explanation.verdict is Verdict.WITHHELD:
        return Grade.D
    failed = {measure.name for measure in explanation.measures if measure.passed is False}
    if explanation.verdict is Verdict.LABELLED or failed:
        return Grade.D if failed & _FAITHFUL or len(failed) > 1 else Grade.C
    passed = {measure.name for measure in explanation.measures if measure.passed}
    return Grade.A if passed >= _THOROUGH else Grade.B


def counted_checks(explanation: Explanation) -> tuple[int, int]:
    """Return how many of the checks were passed, and how many there were."""
    checks = [measure.passed for measure in explanation.measures if measure.passed is not None]
    return sum(checks), len(checks)
