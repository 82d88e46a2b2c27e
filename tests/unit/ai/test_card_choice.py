"""Which explainer a card recommends: figures in, a choice and its reasons out."""

import pytest

from ai.card.choice import chosen
from ai.card.diagnosis import halves, proportion
from ai.card.figures import Costs, ExplainerFigures, RandomizationFigures
from ai.card.gate_limits import proposed_limits
from ai.card.records import CaseRecord, MapRecord, from_line, to_line
from ai.quality.intervals import Interval

CONTROLS = ("random", "sobel", "intensity")


def interval(middle, half=0.05):
    return Interval(estimate=middle, low=middle - half, high=middle + half)


def figures(name, *, seconds=1.0, smprt=0.1, **measures):
    return ExplainerFigures(
        name=name,
        is_control=name in CONTROLS,
        maps=20,
        failed=0,
        measures={key: interval(value) for key, value in measures.items()},
        randomization=RandomizationFigures(
            cases=3, emprt=None, smprt=smprt, similarity=(1.0, smprt), modules=("a",)
        ),
        costs=Costs(seconds=seconds, forwards=1, backwards=1, peak_bytes=0),
    )


def controls(**measures):
    return [figures(name, **measures) for name in CONTROLS]


def records(**masses):
    """Twenty cases in which each map has the mass that is given, give or take one per mille."""
    return [
        CaseRecord(
            key=str(number),
            case=str(number),
            maps=tuple(
                MapRecord(name=name, measures={"mass": mass + (number % 3 - 1) / 1000})
                for name, mass in masses.items()
            ),
        )
        for number in range(20)
    ]


def test_the_best_in_the_truth_is_chosen_though_another_is_more_comprehensive():
    found = [
        figures("layer_cam", mass=0.6, comprehensiveness=0.5),
        figures("lrp", mass=0.3, comprehensiveness=0.9),
        *controls(mass=0.1, comprehensiveness=0.0),
    ]

    choice = chosen(records(layer_cam=0.6, lrp=0.3), found, seed=0)

    assert (choice.name, choice.by, choice.beats_controls) == ("layer_cam", "mass", True)


def test_without_truth_comprehensiveness_decides():
    found = [
        figures("layer_cam", comprehensiveness=0.5),
        figures("lrp", comprehensiveness=0.9),
        *controls(comprehensiveness=0.0),
    ]

    choice = chosen([], found, seed=0)

    assert (choice.name, choice.by) == ("lrp", "comprehensiveness")


def test_nothing_is_chosen_that_one_control_comes_near_to():
    found = [figures("layer_cam", mass=0.6), *controls(mass=0.1)]
    found[-1] = figures("intensity", mass=0.52)

    choice = chosen(records(layer_cam=0.6), found, seed=0)

    assert (choice.name, choice.beats_controls) == ("", False)
    assert "No method beats all three controls" in choice.reasons[0]


def test_of_equals_the_faster_is_chosen_and_the_card_says_so():
    found = [
        figures("lrp", mass=0.6, seconds=5.0),
        figures("layer_cam", mass=0.6, seconds=0.5),
        *controls(mass=0.1),
    ]
    same = records(lrp=0.6, layer_cam=0.6)

    choice = chosen(same, found, seed=0)

    assert choice.name == "layer_cam"
    assert any("5 s instead of 0.5 s" in reason for reason in choice.reasons)


@pytest.mark.parametrize(
    ("flaw", "words"),
    [({"smprt": 0.95}, "forgets what it learned"), ({"stability": 0.4}, "hardly changes")],
)
def test_a_method_that_shows_the_image_or_is_unstable_is_left_out(flaw, words):
    found = [
        figures("lrp", mass=0.9, **flaw),
        figures("layer_cam", mass=0.6, stability=0.9),
        *controls(mass=0.1),
    ]

    choice = chosen(records(lrp=0.9, layer_cam=0.6), found, seed=0)

    assert choice.name == "layer_cam"
    assert any(words in reason and "LRP" in reason for reason in choice.reasons)


def gate_records(good, control, count=20):
    """Cases whose good maps and controls have these values of comprehensiveness and edges."""
    return [
        CaseRecord(
            key=str(number),
            case=str(number),
            target="lesion",
            is_found=True,
            truth={"lesion": True},
            maps=(
                MapRecord(name="layer_cam", measures=_gate_measures(good, number)),
                *(MapRecord(name=n, measures=_gate_measures(control, number)) for n in CONTROLS),
            ),
        )
        for number in range(count)
    ]


def _gate_measures(values, number):
    comprehensiveness, edges = values
    return {"comprehensiveness": comprehensiveness + number / 1000, "edges": edges - number / 1000}


def test_limits_stand_halfway_between_good_maps_and_controls():
    found = proposed_limits(gate_records((0.8, 0.1), (0.0, 0.9)), "layer_cam")

    limits = {each.measure: each.limit for each in found.limits}
    # Good maps from 0.800 and to 0.100; the controls' medians are 0.0095 and 0.8905.
    assert limits["comprehensiveness"] == pytest.approx((0.8 + 0.0095) / 2, abs=0.001)
    assert limits["edges"] == pytest.approx((0.1 + 0.8905) / 2, abs=0.001)
    assert found.good_passed == 1.0
    assert set(found.controls_stopped.values()) == {1.0}


def test_where_a_control_is_better_the_worst_good_map_is_the_limit():
    found = proposed_limits(gate_records((0.2, 0.5), (0.9, 0.1)), "layer_cam")

    limits = {each.measure: each.limit for each in found.limits}
    assert limits["comprehensiveness"] == pytest.approx(0.2, abs=0.001)
    assert limits["edges"] == pytest.approx(0.5, abs=0.001)
    assert found.good_passed == 1.0


def test_few_maps_give_no_limit_and_say_so():
    found = proposed_limits(gate_records((0.8, 0.1), (0.0, 0.9), count=9), "layer_cam")

    assert found.limits == ()
    assert "9 maps" in found.unmeasured


def test_a_share_of_all_cases_is_no_certainty():
    found = proportion(10, 10)

    # Wilson 1927: the lower limit is n / (n + z^2).
    assert found.low == pytest.approx(10 / (10 + 1.959964**2))
    assert (found.estimate, found.high) == (1.0, 1.0)


def test_halves_have_each_kind_alike_and_nothing_twice():
    kinds = ["a"] * 11 + ["b"] * 7 + ["c"]

    one, other = halves(kinds, seed=3)

    assert sorted(one + other) == list(range(19))
    assert abs(len(one) - len(other)) <= 1
    for kind in "ab":
        assert abs(sum(kinds[i] == kind for i in one) - sum(kinds[i] == kind for i in other)) <= 1


def test_a_record_comes_back_from_its_line():
    record = gate_records((0.8, 0.1), (0.0, 0.9), count=1)[0]

    assert from_line(to_line(record)) == record
