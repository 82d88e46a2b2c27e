"""The benchmark of reliability, on readings that were made up so that its figures are known."""

import json
from dataclasses import asdict

import numpy as np
import pytest

from benchmarks.calibration_errors import error_in_even_bins, error_of_answers, honest_error
from benchmarks.reliability import (
    PHANTOM,
    Reading,
    load_readings,
    measured,
    wanted,
)


def readings(count, *, first, kind=PHANTOM, apart=0.0, seed=0):
    """Readings of a model that is too sure by a factor of 3, and by a step."""
    rng = np.random.default_rng(seed)
    true = 2.0 * rng.standard_normal(count)
    lesions = rng.random(count) < 1 / (1 + np.exp(-true))
    features = apart + rng.standard_normal((count, 4))
    return [
        Reading(
            kind=kind,
            seed=first + number,
            logit=float(3.0 * true[number] + 2.0),
            features=tuple(features[number]),
            has_lesion=bool(lesions[number]),
        )
        for number in range(count)
    ]


def test_figures_are_those_that_were_put_in():
    fitted, held = readings(8000, first=0), readings(2000, first=9000, seed=1)
    strange = {"elsewhere": readings(50, first=0, kind="elsewhere", apart=9.0, seed=2)}

    figures = measured(fitted, held, strange, again=held[:500], resamples=100)

    assert figures["slopes"] == pytest.approx((1 / 3, 1 / 3), rel=0.15)
    assert figures["bias"] == pytest.approx(-2.0 / 3.0, abs=0.15)
    calibration = figures["calibration"]
    assert all(ratio["high"] < 0.5 for ratio in calibration["ratios"].values())
    one, two = calibration["one slope and bias"], calibration["two slopes and bias"]
    assert two["brier"] == pytest.approx(one["brier"], abs=0.001)
    # A step is nothing that a temperature could mend.
    assert calibration["temperature alone"]["error"]["estimate"] > 0.05
    assert figures["conformal"]["coverage"]["estimate"] == pytest.approx(0.9, abs=0.03)
    assert figures["conformal"]["chance_deviation"] == pytest.approx(0.3 / np.sqrt(1600))
    assert figures["strange"]["elsewhere"]["distance"]["low"] > 0.99
    assert figures["familiar"]["called_strange"] < 0.05
    assert figures["again"]["phantoms"] == 500
    assert figures["again"]["honest"]["error"] > calibration["honest"]["error"]
    json.dumps(figures)


def test_an_honest_model_still_has_an_error_of_chance():
    few, many = (np.full(count, 0.5) for count in (100, 10_000))

    # Mean distance of a share from one half: sqrt(2 / pi) times its deviation.
    assert honest_error(few, error_in_even_bins) == pytest.approx(
        0.05 * np.sqrt(2 / np.pi), rel=0.1
    )
    assert honest_error(many, error_in_even_bins) == pytest.approx(
        0.005 * np.sqrt(2 / np.pi), rel=0.1
    )


def test_the_error_of_answers_asks_a_firm_no_as_it_asks_a_firm_yes():
    # Both say 90 %, half of them rightly: of yes these are 10 % that came true in half.
    claims = np.array([[0.1, 1.0], [0.1, 0.0], [0.9, 1.0], [0.9, 0.0]])

    assert error_of_answers(claims) == pytest.approx(0.4)
    assert error_in_even_bins(claims) == pytest.approx(0.4)
    # Frequencies that lie apart in two bins of yes are one bin of answers.
    claims = np.array([[0.1, 1.0], [0.9, 1.0]])
    assert error_of_answers(claims) == pytest.approx(0.4)
    assert error_in_even_bins(claims) == pytest.approx(0.5)


def test_a_run_that_was_stopped_keeps_what_it_read(tmp_path):
    first, second = readings(2, first=7)
    lines = [json.dumps(asdict(each)) for each in (first, second)]
    file = tmp_path / "readings.jsonl"
    file.write_text(f"{lines[0]}\n{lines[1][:40]}", encoding="utf-8")

    found = load_readings(file)

    assert found == {(PHANTOM, 7): first}
    assert file.read_text(encoding="utf-8") == f"{lines[0]}\n"
    assert load_readings(tmp_path / "none.jsonl") == {}


def test_fitted_and_held_back_take_turns_and_share_no_seed():
    keys = list(wanted(phantoms=3, strangers=2, kinds=["a", "b"]))

    assert [kind for kind, _ in keys] == [PHANTOM] * 6 + ["a", "b"] * 2
    assert len(set(keys)) == len(keys)
    assert {seed for _, seed in keys[:6:2]} & {seed for _, seed in keys[1:6:2]} == set()
