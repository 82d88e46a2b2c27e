"""The grade of an explanation: from its verdict and its checks, and from nothing else."""

import pytest

from dicom_io.analysis import MeasureValue, Verdict
from dicom_io.codes import EXPLANATION_GRADES
from dicom_io.grade import Grade, counted_checks, grade_of
from tests.build_analysis import make_explanation, make_input

ALL = ("comprehensiveness", "stability", "plausibility", "edges", "intensity")


def judged(verdict, *, passed=(), failed=(), reported=()):
    held = [(name, True) for name in passed] + [(name, False) for name in failed]
    values = [MeasureValue(name=name, value=0.5, limit=0.5, passed=met) for name, met in held]
    values += [MeasureValue(name=name, value=0.5) for name in reported]
    return make_explanation(make_input(), verdict, measures=tuple(values))


@pytest.mark.parametrize(
    ("verdict", "passed", "failed", "grade"),
    [
        (Verdict.PASSED, ALL, (), Grade.A),
        (Verdict.PASSED, ("comprehensiveness", "edges"), (), Grade.B),
        (Verdict.LABELLED, ALL[:-1], ("intensity",), Grade.C),
        (Verdict.LABELLED, ALL[2:], ("stability", "comprehensiveness"), Grade.D),
        (Verdict.LABELLED, ALL[:3], ("edges", "intensity"), Grade.D),
        (Verdict.LABELLED, ALL[1:], ("comprehensiveness",), Grade.D),
        (Verdict.LABELLED, ALL, ("residual",), Grade.D),
        (Verdict.LABELLED, ALL, ("specificity",), Grade.D),
        (Verdict.WITHHELD, ALL[:-1], ("intensity",), Grade.D),
        (None, (), (), Grade.NONE),
    ],
)
def test_the_grade_follows_from_verdict_and_checks(verdict, passed, failed, grade):
    assert grade_of(judged(verdict, passed=passed, failed=failed)) is grade


def test_what_is_only_reported_is_no_check():
    explanation = judged(
        Verdict.LABELLED, passed=("comprehensiveness",), failed=("edges",), reported=("agreement",)
    )

    assert counted_checks(explanation) == (1, 2)


def test_every_grade_has_a_concept_that_begins_with_its_letter():
    assert set(EXPLANATION_GRADES) == {str(grade) for grade in Grade}
    for grade in "ABCD":
        assert EXPLANATION_GRADES[grade].meaning.startswith(f"{grade}: ")
