import re

import pytest
import torch
from torch import nn

from ai.errors import BaselineError, BudgetError, ExplanationCancelledError
from ai.explainers.baselines import blurred
from ai.explainers.occlusion import Occlusion
from ai.explainers.rise import Rise, _balanced, _hats
from ai.model import Budget, Settings
from ai.targets import ClassLogit
from tests.build_networks import Linear, classifier, image

#: Far apart on an image of 28 x 28: no cell touches both.
HERE, THERE = (0, 0, 4, 5), (0, 0, 20, 22)


class Product(nn.Module):
    """x1 x2, of two voxels far apart."""

    def forward(self, x):
        return (x[:, 0, 4, 5] * x[:, 0, 20, 22])[:, None]


class Either(nn.Module):
    """Whether one voxel or the other is 1, for voxels between 0 and 1."""

    def forward(self, x):
        return (1 - (1 - x[:, 0, 4, 5]) * (1 - x[:, 0, 20, 22]))[:, None]


@pytest.mark.parametrize("shape", [(1, 1, 40), (1, 1, 28, 21), (1, 1, 9, 12, 15)])
def test_a_voxel_of_a_linear_model_gains_half_of_what_it_holds_and_others_nothing(shape):
    x, weight = image(*shape), torch.zeros(shape)
    voxel = (0, 0, *(extent // 2 for extent in shape[2:]))
    weight[voxel] = 3.0

    found = Rise(baseline="zero", masks=1).explain(
        Linear(weight, bias=9.0).eval(), x, ClassLogit(0)
    )

    # One block is exact: E[f | visible] - E[f] is half of w x.
    assert found.values[voxel].item() == pytest.approx(1.5 * x[voxel].item(), rel=1e-4)
    assert found.values[(0, 0, *(0 for _ in shape[2:]))].abs().item() < 1e-5
    assert found.values.shape == (1, 1, *shape[2:])


def test_values_over_the_blurred_image_are_those_of_the_difference():
    x, weight = image(1, 3, 28, 28), torch.zeros(1, 3, 28, 28)
    weight[0, 1, 20, 7] = 3.0

    found = Rise(masks=1).explain(Linear(weight).eval(), x, ClassLogit(0))

    gain = 3 * (x - blurred(x))[0, 1, 20, 7]
    assert found.values[0, 0, 20, 7].item() == pytest.approx(gain.item() / 2, rel=1e-3)


def test_factors_of_a_product_gain_a_quarter_each():
    x = image(1, 1, 28, 28)

    found = Rise(baseline="zero", masks=1).explain(Product().eval(), x, ClassLogit(0))

    # Visible or not, the other factor is there half of the time.
    product = (x[HERE] * x[THERE]).item()
    assert found.values[HERE].item() == pytest.approx(product / 4, rel=1e-4)
    assert found.values[THERE].item() == pytest.approx(product / 4, rel=1e-4)


def test_it_sees_what_is_there_twice_where_occlusion_sees_nothing():
    x = torch.zeros(1, 1, 28, 28)
    x[HERE] = x[THERE] = 1.0

    found = Rise(baseline="zero", masks=1).explain(Either().eval(), x, ClassLogit(0))
    occluded = Occlusion(baseline="zero").explain(Either().eval(), x, ClassLogit(0))

    assert occluded.values.abs().max() == 0
    assert found.values[HERE].item() == pytest.approx(0.25, rel=1e-4)
    assert found.values[THERE].item() == pytest.approx(0.25, rel=1e-4)


def test_in_a_block_no_node_hides_behind_another_or_behind_a_pair():
    signs = _balanced((3, 4), torch.Generator().manual_seed(0)).double()

    masks, nodes = signs.shape
    pairs = torch.stack([signs[:, a] * signs[:, b] for a in range(nodes) for b in range(a)], 1)
    assert (masks, nodes) == (32, 12)
    assert torch.equal(signs.mean(0), torch.zeros(nodes).double())
    assert torch.equal(signs.T @ signs, masks * torch.eye(nodes).double())
    assert torch.equal(signs.T @ pairs, torch.zeros(nodes, pairs.shape[1]).double())


@pytest.mark.parametrize("shift", [0.0, 0.3, 0.999])
def test_every_voxel_sees_its_nodes_with_weights_that_sum_to_one(shift):
    hats = _hats(21, 8, shift)

    assert hats.min() >= 0
    assert torch.allclose(hats.sum(dim=1), torch.ones(21))
    # Three voxels a cell: a node is seen by those within a cell of it.
    assert (hats[:, 3] > 0).sum() <= 6


def test_it_stops_when_the_map_has_settled_over_four_blocks():
    weight, x = torch.zeros(1, 1, 28, 28), image(1, 1, 28, 28)
    weight[HERE] = 3.0

    found = Rise(tolerance=1.0).explain(Linear(weight).eval(), x, ClassLogit(0))

    assert found.cost.forwards == 1 + 4 * 128
    assert found.warnings == ()


def test_the_standard_error_is_what_maps_of_different_seeds_differ_by():
    network, x = classifier(), image(1, 1, 28, 28)
    explainer, maps, told = Rise(masks=512, tolerance=1e-9), [], []

    for seed in range(8):
        settings = Settings(generator=torch.Generator().manual_seed(seed))
        found = explainer.explain(network, x, ClassLogit(1), settings)
        maps.append(found.values)
        told.append(float(re.search(r"standard error is ([\d.]+) of the map", *found.warnings)[1]))

    stacked = torch.stack(maps)
    true = stacked.var(dim=0).mean().sqrt() / stacked.square().mean().sqrt()
    assert sum(told) / 8 == pytest.approx(true.item(), rel=0.3)


def test_more_masks_come_nearer_to_the_settled_map():
    network, x = classifier(), image(1, 1, 28, 28)
    settled = Rise(masks=2048, tolerance=1e-9).explain(
        network, x, ClassLogit(1), Settings(generator=torch.Generator().manual_seed(1))
    )

    few, many = (
        Rise(masks=masks, tolerance=1e-9).explain(network, x, ClassLogit(1)).values
        for masks in (128, 1024)
    )

    assert (many - settled.values).norm() < 0.5 * (few - settled.values).norm()


def test_a_single_block_has_no_standard_error():
    found = Rise(masks=200).explain(classifier(), image(1, 1, 28, 28), ClassLogit(1))

    assert found.cost.forwards == 129
    assert found.warnings == (
        "the standard error is not known after 128 masks, wanted 0.2 (the most masks are reached)",
    )


def test_a_budget_ends_it_after_the_last_whole_block():
    settings = Settings(budget=Budget(forwards=400))

    found = Rise(tolerance=1e-9).explain(classifier(), image(1, 1, 28, 28), ClassLogit(1), settings)

    assert found.cost.forwards == 1 + 3 * 128
    assert re.fullmatch(
        r"the standard error is 0\.\d+ of the map after 384 masks, wanted 1e-09 "
        r"\(the budget is spent\)",
        *found.warnings,
    )


def test_cancelling_leaves_the_blocks_that_are_whole():
    spent = []
    budget = Budget(
        report=lambda done, total: spent.append((done, total)),
        cancelled=lambda: bool(spent) and spent[-1][0] >= 200,
    )

    found = Rise(memory_bytes=1).explain(
        classifier(), image(1, 1, 28, 28), ClassLogit(1), Settings(budget=budget)
    )

    assert found.warnings[0].endswith("after 128 masks, wanted 0.2 (cancelled)")
    assert spent[0] == (1, 2049)
    assert spent[-1] == (200, 200)


def test_cancelling_in_the_first_block_leaves_nothing():
    spent = []
    budget = Budget(report=lambda done, _: spent.append(done), cancelled=lambda: len(spent) > 9)

    with pytest.raises(ExplanationCancelledError, match="cancelled in the first block"):
        Rise(memory_bytes=1).explain(
            classifier(), image(1, 1, 28, 28), ClassLogit(1), Settings(budget=budget)
        )


def test_a_budget_below_one_block_is_refused():
    with pytest.raises(BudgetError, match="needs at least 129 forward passes, the budget has 128"):
        Rise().explain(
            classifier(), image(1, 1, 28, 28), ClassLogit(1), Settings(budget=Budget(forwards=128))
        )


def test_the_seed_decides_and_is_told():
    network, x = classifier(), image(1, 1, 28, 28)

    def explained(seed):
        settings = Settings(generator=torch.Generator().manual_seed(seed))
        return Rise(masks=1).explain(network, x, ClassLogit(1), settings)

    assert explained(7).seed == 7
    assert torch.equal(explained(7).values, explained(7).values)
    assert not torch.equal(explained(7).values, explained(8).values)


def test_memory_decides_the_batch_and_not_the_answer():
    network, x = classifier(), image(1, 1, 28, 28)

    roomy = Rise(masks=1).explain(network, x, ClassLogit(1)).values
    tight = Rise(masks=1, memory_bytes=1).explain(network, x, ClassLogit(1)).values

    assert torch.allclose(roomy, tight, atol=1e-6)


def test_an_axis_of_one_voxel_is_not_divided():
    found = Rise(masks=1).explain(
        Linear(image(1, 1, 1, 21)).eval(), image(1, 1, 1, 21), ClassLogit(0)
    )

    assert found.values.shape == (1, 1, 1, 21)
    assert found.cost.forwards == 1 + 16


def test_a_constant_fill_is_refused_where_the_network_normalizes_each_image():
    network = nn.Sequential(nn.InstanceNorm2d(1), nn.Flatten(), nn.Linear(64, 2)).eval()

    with pytest.raises(BaselineError, match=r"constant baseline \(zero\)"):
        Rise(baseline="zero").explain(network, image(1, 1, 8, 8), ClassLogit(0))


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"cells": -1}, "cells is -1, expected 1 or more"),
        ({"masks": 0}, "masks is 0, expected 1 or more"),
        ({"tolerance": 0.0}, "tolerance is 0.0, expected a share above 0"),
    ],
)
def test_parameters_that_mean_nothing_are_refused(parameters, message):
    with pytest.raises(ValueError, match=message):
        Rise(**parameters)
