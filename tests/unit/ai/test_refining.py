import pytest
import torch

from ai.explainers.metering import Meter
from ai.explainers.refining import gathered, refined
from ai.model import Budget
from dicom_io.analysis import Cost


class Scripted:
    """A rule whose errors are known; the target gains 1 on the way, from 2 to 3."""

    def __init__(self, *errors: list[float]) -> None:
        self._errors = [torch.tensor(each, dtype=torch.float64) for each in errors]
        self.points = 8

    def values(self):
        return torch.full((1, 1, 1), 1.0) + self.errors().sum().float()

    def ends(self):
        return torch.tensor([2.0]), torch.tensor([3.0])

    def errors(self):
        return self._errors[0]

    def refine(self):
        if len(self._errors) == 1:
            return False
        self._errors.pop(0)
        self.points *= 2
        return True


def end_of(rule, *, most=64, budget=None):
    meter = Meter(budget, 8)
    meter.spend(8)
    return refined(rule, meter, tolerance=0.01, most=most, unit="steps")


def test_a_rule_that_is_complete_is_left_as_it_is():
    found = end_of(Scripted([0.003, 0.004], [0.0]))

    assert found.points == 8
    assert found.warning == ""


def test_a_rule_is_refined_until_its_sum_is_complete():
    found = end_of(Scripted([0.03, 0.0], [0.02, 0.0], [0.005]))

    assert found.points == 32
    assert found.values.item() == pytest.approx(1.005)
    assert found.warning == ""


def test_errors_that_cancel_do_not_make_a_rule_complete():
    found = end_of(Scripted([0.3, -0.3], [0.001]))

    assert found.points == 16


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        ({"most": 15}, "the most steps are reached"),
        ({"budget": Budget(forwards=15)}, "the budget is spent"),
        ({}, "cancelled"),
    ],
)
def test_who_ended_the_refinement_is_told(limits, reason):
    found = end_of(Scripted([0.03, 0.0]), **limits)

    assert found.warning == f"residual 0.03 after 8 steps, wanted 0.01 ({reason})"


def test_a_sum_that_stays_complete_by_chance_is_told():
    found = end_of(Scripted([0.3, -0.4, 0.1]))

    assert found.warning == (
        "residual 0 after 8 steps, wanted 0.01, but by chance: single errors make 0.51 (cancelled)"
    )


def test_entries_of_a_batch_are_gathered_with_their_residuals_and_each_warning_once():
    entries = [end_of(Scripted([0.5])), end_of(Scripted([0.5])), end_of(Scripted([0.0]))]

    found = gathered(entries, method="m", baseline="b", seed=3, cost=Cost(forwards=24.0))

    assert found.values.shape == (3, 1, 1)
    assert found.residual.tolist() == pytest.approx([0.5, 0.5, 0.0])
    assert found.f_x.tolist() == [3.0, 3.0, 3.0]
    assert len(found.warnings) == 1
