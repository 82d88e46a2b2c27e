"""The gate: what was not shown is not assumed."""

import math
from dataclasses import replace

import numpy as np
import pytest

from dicom_io.analysis import (
    Analysis,
    Cost,
    Explanation,
    Heatmap,
    MeasureValue,
    ModelCard,
    Verdict,
)
from node.config import GateSettings, OnFail
from node.config_schema import LimitsTable
from node.gate import CHECKS, INTEGRITY, apply_gate

LABEL = GateSettings(on_fail=OnFail.LABEL)
WITHHOLD = GateSettings(on_fail=OnFail.WITHHOLD)
SOUND = {"integrity": 1.0, "comprehensiveness": 0.5, "edges": 0.1, "intensity": 0.1}


def judged(values, settings=LABEL, method="layer_cam", **changes):
    explanation = Explanation(
        target="lesion",
        method=method,
        heatmap=Heatmap(relevance=np.zeros((1, 1, 2, 2), np.float32)),
        measures=tuple(MeasureValue(name=name, value=value) for name, value in values.items()),
        cost=Cost(forwards=1),
        **changes,
    )
    card = ModelCard(name="m", version="1", weights_sha256="0" * 64)
    analysis = Analysis(model=card, input_name="image", explanations=(explanation,))
    return apply_gate(analysis, settings).explanations[0]


def test_a_sound_heatmap_passes_and_its_measures_say_what_was_asked():
    passed = judged(SOUND)

    assert passed.verdict is Verdict.PASSED
    assert passed.reasons == ()
    assert [(m.name, m.limit, m.passed) for m in passed.measures] == [
        ("integrity", 1.0, True),
        ("comprehensiveness", 0.2, True),
        ("edges", 0.8, True),
        ("intensity", 0.8, True),
    ]


@pytest.mark.parametrize(("settings", "verdict"), [(LABEL, "labelled"), (WITHHOLD, "withheld")])
def test_a_heatmap_that_does_not_matter_is_labelled_or_withheld(settings, verdict):
    failed = judged({**SOUND, "comprehensiveness": 0.0}, settings)

    assert failed.verdict == verdict
    assert failed.reasons[0].startswith("Hiding the highlighted region changed the result hardly")
    assert failed.measures[1].passed is False


@pytest.mark.parametrize(("value", "verdict"), [(-0.5, "passed"), (-0.501, "labelled")])
def test_a_map_that_another_class_needs_more_than_three_times_as_much_fails(value, verdict):
    found = judged({**SOUND, "specificity": value})

    assert found.verdict == verdict
    assert [
        each.startswith("Hiding the highlighted region costs another") for each in found.reasons
    ] == ([True] if verdict == "labelled" else [])


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("measure", sorted(CHECKS))
def test_a_measure_that_is_no_number_fails(measure, value):
    failed = judged({**SOUND, measure: value})

    assert failed.verdict is not Verdict.PASSED
    assert len(failed.reasons) == 1
    assert next(m for m in failed.measures if m.name == measure).passed is False


@pytest.mark.parametrize("measure", sorted(SOUND))
def test_a_missing_measure_fails_and_is_among_those_that_were_asked(measure):
    values = {name: value for name, value in SOUND.items() if name != measure}

    failed = judged(values)

    assert failed.verdict is not Verdict.PASSED
    assert failed.reasons == (CHECKS[measure].missing,)
    asked = next(each for each in failed.measures if each.name == measure)
    assert math.isnan(asked.value)
    assert (asked.limit, asked.passed) == (CHECKS[measure].limit, False)


@pytest.mark.parametrize(
    ("measure", "good", "bad"),
    [
        ("comprehensiveness", 0.2001, 0.2),
        ("stability", 0.7, 0.6999),
        ("plausibility", 0.8, 0.7999),
        ("edges", 0.7999, 0.8),
        ("intensity", 0.7999, 0.8),
    ],
)
def test_a_value_is_held_to_the_limit_of_its_check(measure, good, bad):
    passed, failed = (judged({**SOUND, measure: value}) for value in (good, bad))

    assert passed.verdict is Verdict.PASSED
    assert failed.verdict is Verdict.LABELLED
    assert len(failed.reasons) == 1


@pytest.mark.parametrize("measure", ["stability", "plausibility"])
def test_what_says_nothing_of_a_heatmap_is_not_asked_of_it(measure):
    assert measure not in {each.name for each in judged(SOUND).measures}


def test_stability_is_asked_of_every_method_where_a_limit_was_set_for_it():
    settings = replace(LABEL, limits={"stability": 0.6})

    assert judged(SOUND, settings).reasons == (CHECKS["stability"].missing,)
    assert judged({**SOUND, "stability": 0.65}, settings).verdict is Verdict.PASSED


def test_agreement_is_reported_and_never_fails():
    reported = judged({**SOUND, "agreement": -1.0})

    assert reported.verdict is Verdict.PASSED
    assert reported.measures[-1].passed is None


def test_where_nothing_is_measured_there_is_no_verdict():
    judged_ = judged({}, replace(WITHHOLD, measure=False), method="lrp", residual=0.5)

    assert (judged_.verdict, judged_.measures, judged_.reasons) == (None, (), ())


def test_a_faulty_heatmap_is_withheld_even_where_nothing_is_measured():
    faulty = judged({"integrity": 0.0}, replace(LABEL, measure=False))

    assert faulty.verdict is Verdict.WITHHELD


def test_of_what_is_no_heatmap_nothing_else_is_said():
    faulty = judged({"integrity": 0.0}, method="lrp", residual=0.5)

    assert faulty.reasons == (INTEGRITY.failed,)


def test_a_faulty_heatmap_is_withheld_whatever_the_route_says():
    assert judged({**SOUND, "integrity": 0.0}, LABEL).verdict is Verdict.WITHHELD


@pytest.mark.parametrize(
    ("method", "residual", "verdict"),
    [
        ("integrated_gradients", 0.04, Verdict.PASSED),
        ("integrated_gradients", 0.06, Verdict.LABELLED),
        ("integrated_gradients", None, Verdict.LABELLED),
        ("lrp", 0.0005, Verdict.PASSED),
        ("lrp", 0.002, Verdict.LABELLED),
        ("lrp", None, Verdict.LABELLED),
        ("kernel_shap", None, Verdict.LABELLED),
        ("layer_cam", None, Verdict.PASSED),
        ("rise", None, Verdict.PASSED),
        ("input_x_gradient", None, Verdict.PASSED),
        ("a_plug_in", 0.002, Verdict.LABELLED),
    ],
)
def test_methods_with_an_axiom_are_held_to_it(method, residual, verdict):
    held = judged(SOUND, method=method, residual=residual)

    assert held.verdict is verdict


@pytest.mark.parametrize(
    ("method", "residual", "said"),
    [
        ("lrp", 0.3, "30.0% of it is unexplained, at most 0.1% is accepted"),
        ("lrp", 0.0010004, "0.10004% of it is unexplained, at most 0.10000% is accepted"),
        ("integrated_gradients", 0.0501, "5.01% of it is unexplained, at most 5.00% is accepted"),
    ],
)
def test_a_reason_never_rounds_a_value_to_its_limit(method, residual, said):
    assert said in judged(SOUND, method=method, residual=residual).reasons[0]


def test_a_contrast_at_the_limit_is_told_without_a_sign():
    settings = replace(LABEL, limits={"comprehensiveness": 0.0})

    (reason,) = judged({**SOUND, "comprehensiveness": 0.0}, settings).reasons

    assert "(contrast 0.000 of at most 1, more than 0.000 is asked)" in reason


def test_the_residual_of_an_explanation_becomes_a_measure():
    measures = judged(SOUND, method="lrp", residual=0.002).measures

    assert (measures[-1].name, measures[-1].value, measures[-1].passed) == (
        "residual",
        0.002,
        False,
    )


def test_a_route_may_set_limits_of_its_own():
    settings = replace(LABEL, limits={"comprehensiveness": 0.6})

    assert judged(SOUND, settings).verdict is Verdict.LABELLED


def test_other_measures_are_reported_untouched():
    reported = judged({**SOUND, "comprehensiveness_top": 0.5}).measures[-1]

    assert (reported.limit, reported.passed) == (None, None)


def test_the_configuration_knows_the_limits_of_the_gate():
    assert {*LimitsTable.model_fields, INTEGRITY.measure} == set(CHECKS)
