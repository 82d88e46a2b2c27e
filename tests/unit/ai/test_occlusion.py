import pytest
import torch
from torch import nn

from ai.errors import BudgetError
from ai.explainers.baselines import blurred
from ai.explainers.occlusion import Occlusion
from ai.model import Budget, Settings
from ai.targets import ClassLogit
from tests.build_networks import Linear, classifier, image


class Spot(nn.Module):
    """The mean of a small square far from the middle."""

    def forward(self, x):
        return x[:, :, 4:8, 40:44].flatten(1).mean(1, keepdim=True)


def test_cells_of_one_voxel_give_w_times_x_for_a_linear_model():
    weight, x = image(1, 1, 6, 5, seed=1), image(2, 1, 6, 5, seed=2)

    found = Occlusion(baseline="zero", cells=6, refine=(0,)).explain(
        Linear(weight, bias=2.0).eval(), x, ClassLogit(0)
    )

    assert torch.allclose(found.values, x * weight, atol=1e-5)


def test_values_of_a_linear_model_sum_to_the_gain_at_every_level():
    weight, x = image(1, 1, 48, 40, seed=1), image(1, 1, 48, 40, seed=2)
    network = Linear(weight).eval()

    found = Occlusion().explain(network, x, ClassLogit(0))

    gain = network(x) - network(blurred(x))
    assert found.values.sum().item() == pytest.approx(gain.item(), rel=1e-3)


def test_it_goes_from_coarse_to_fine_where_the_target_lives():
    x = image(1, 1, 64, 64)

    found = Occlusion().explain(Spot().eval(), x, ClassLogit(0))

    relevance = found.values[0, 0]
    spot = relevance[4:8, 40:44].abs().sum().item()
    assert spot == pytest.approx(relevance.abs().sum().item(), rel=1e-5)


@pytest.mark.parametrize(
    ("shape", "passes"), [((1, 1, 64, 64), 161), ((1, 1, 24, 24, 24), 124)], ids=["2D", "3D"]
)
def test_the_price_is_that_of_the_coarse_grid_and_two_refinements(shape, passes):
    network, x = classifier(axes=len(shape) - 2), image(*shape)

    found = Occlusion().explain(network, x, ClassLogit(0))

    assert found.cost.forwards == passes
    assert Occlusion().estimate_cost(network, x).forwards == passes
    assert found.warnings == ()


def test_a_budget_is_kept_and_the_rest_is_told():
    network, x = classifier(), image(1, 1, 64, 64)
    settings = Settings(budget=Budget(forwards=100))

    found = Occlusion().explain(network, x, ClassLogit(0), settings)

    assert found.cost.forwards == 100
    assert found.warnings == (
        "stopped at level 1: 35 of 64 cells measured, the others keep the coarser level's value",
    )


def test_the_first_entry_does_not_spend_what_the_second_needs():
    network, x = classifier(), image(2, 1, 64, 64)
    settings = Settings(budget=Budget(forwards=200))

    found = Occlusion().explain(network, x, ClassLogit(0), settings)

    assert found.cost.forwards == 200
    assert found.values[1].abs().min() > 0
    assert found.warnings == (
        "stopped at level 1: 35 of 64 cells measured, the others keep the coarser level's value",
    )


def test_progress_ends_where_the_work_ends():
    heard = []
    budget = Budget(forwards=100, report=lambda done, total: heard.append((done, total)))

    Occlusion().explain(classifier(), image(1, 1, 64, 64), ClassLogit(0), Settings(budget=budget))

    assert heard[0] == (1, 161)
    assert heard[-1] == (100, 100)


def test_a_cancelled_coarse_grid_is_told_too():
    network, x = classifier(), image(1, 1, 64, 64)
    spent = []
    settings = Settings(
        budget=Budget(
            report=lambda done, _total: spent.append(done),
            cancelled=lambda: spent[-1] >= 11,
        )
    )

    found = Occlusion(memory_bytes=1).explain(network, x, ClassLogit(0), settings)

    assert found.warnings == ("stopped at level 0: 10 of 64 cells measured, the others are zero",)
    assert found.values[0, 0, 16:].abs().sum() == 0


def test_a_budget_below_the_coarse_grid_is_refused():
    with pytest.raises(BudgetError, match="needs at least 65 forward passes, the budget has 64"):
        Occlusion().explain(
            classifier(),
            image(1, 1, 64, 64),
            ClassLogit(0),
            Settings(budget=Budget(forwards=64)),
        )


def test_memory_decides_the_batch_and_not_the_answer():
    network, x = classifier(), image(1, 1, 48, 48)

    roomy = Occlusion().explain(network, x, ClassLogit(1)).values
    tight = Occlusion(memory_bytes=1).explain(network, x, ClassLogit(1)).values

    assert torch.allclose(roomy, tight, atol=1e-7)


def test_cells_are_no_finer_than_the_image():
    found = Occlusion().explain(Linear(image(1, 1, 1, 4)).eval(), image(1, 1, 1, 4), ClassLogit(0))

    assert found.values.shape == (1, 1, 1, 4)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"cells": -1}, "cells is -1, expected 1 or more"),
        ({"refine": [4, -1]}, r"refine is \[4, -1\], expected counts of cells"),
    ],
)
def test_parameters_that_mean_nothing_are_refused(parameters, message):
    with pytest.raises(ValueError, match=message):
        Occlusion(**parameters)


class Product(nn.Module):
    """x1 x2."""

    def forward(self, x):
        return x.flatten(1).prod(1, keepdim=True)


def test_either_factor_of_a_product_is_worth_all_of_it():
    x = torch.tensor([[[3.0, -2.0]]])

    found = Occlusion(baseline="zero", cells=2, refine=(0,)).explain(
        Product().eval(), x, ClassLogit(0)
    )

    assert found.values.tolist() == [[[-6.0, -6.0]]]
