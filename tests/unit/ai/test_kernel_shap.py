import itertools
import math

import pytest
import torch
from torch import nn

from ai.errors import BaselineError, BudgetError
from ai.explainers.coalitions import tables_of
from ai.explainers.kernel_shap import KernelShap
from ai.explainers.lime import Lime
from ai.explainers.shapley import drawn_pairs, shapley_values
from ai.explainers.supervoxels import supervoxels_of
from ai.model import Budget, Settings
from ai.targets import ClassLogit
from tests.build_networks import Linear, classifier, image

LOGIT = ClassLogit(0)
#: So small that the borders between players are hard.
SMALL = (1, 1, 12, 12)


class Pieces(nn.Module):
    """A function of the sums of an image's pieces, [B, players] to one logit."""

    def __init__(self, x, players, function):
        super().__init__()
        labels = supervoxels_of(x, players)
        self.masks = torch.stack([labels == piece for piece in range(int(labels.max()) + 1)])
        self.function = function

    def forward(self, x):
        sums = torch.einsum("bchw,phw->bp", x, self.masks.to(x.dtype))
        return self.function(sums)[:, None]

    def of_pieces(self, values):
        """Return the sum of [1, 1, H, W] in each piece."""
        return torch.einsum("bchw,phw->p", values, self.masks.to(values.dtype))


def brute_force(network, x, baseline):
    """Return exact Shapley values of the pieces, from all coalitions."""
    count = len(network.masks)
    played = {}
    for members in itertools.product((False, True), repeat=count):
        shown = network.masks[list(members)].any(dim=0) if any(members) else x[0, 0] > math.inf
        played[members] = network(torch.where(shown, x, baseline)).item()
    values = torch.zeros(count, dtype=torch.float64)
    for members, value in played.items():
        for player in range(count):
            if members[player]:
                others = sum(members) - 1
                weight = math.factorial(others) * math.factorial(count - others - 1)
                without = (*members[:player], False, *members[player + 1 :])
                values[player] += weight / math.factorial(count) * (value - played[without])
    return values


def explained(function, players=6, **parameters):
    x = image(*SMALL, seed=1)
    baseline = torch.zeros_like(x)
    network = Pieces(x, players, function).double().eval()
    found = KernelShap(players=players, **parameters).explain(
        network, x.double(), LOGIT, Settings(baseline=baseline.double())
    )
    return network, x.double(), baseline.double(), found


@pytest.mark.parametrize(
    "function",
    [
        lambda p: p @ torch.arange(1.0, p.shape[1] + 1).to(p),
        lambda p: torch.tanh(p).sum(dim=1),
        lambda p: p[:, 0] * p[:, 1] + p[:, 2],
        lambda p: (p[:, 0] * p[:, 1] * p[:, 2]).sigmoid() + p.amax(dim=1),
    ],
    ids=["linear", "additive", "two factors", "anything"],
)
def test_few_players_get_exact_shapley_values(function):
    network, x, baseline, found = explained(function)

    exact = brute_force(network, x, baseline)
    assert torch.allclose(network.of_pieces(found.values.double()), exact, atol=1e-6, rtol=1e-5)
    assert float(found.residual) < 1e-6
    assert found.warnings == ()
    assert found.cost.forwards == 2 ** len(exact)


def test_the_factors_of_a_product_get_half_each():
    network, x, _, found = explained(lambda p: p[:, 0] * p[:, 1])

    pieces = network.of_pieces(found.values.double())
    gain = network(x).item()
    assert torch.allclose(pieces[:2], torch.full((2,), gain / 2, dtype=torch.float64), rtol=1e-5)
    assert pieces[2:].abs().max() < 1e-6 * abs(gain)


def test_many_players_are_sampled_and_still_add_up():
    network, _, _, found = explained(
        lambda p: torch.tanh(p / 10).sum(dim=1) + p[:, 0] * p[:, 1] / 100, players=30, samples=400
    )

    assert float(found.residual) < 1e-3
    assert found.cost.forwards <= 400
    assert len(network.masks) > 12


def test_a_linear_game_is_solved_by_its_singles_alone():
    weights = torch.arange(1.0, 13.0, dtype=torch.float64)
    pairs = drawn_pairs(12, 12, torch.Generator().manual_seed(0))

    values = pairs.coalitions(0, 12).double() @ weights

    assert torch.allclose(shapley_values(pairs, values, float(weights.sum())), weights)


def test_soft_borders_share_each_voxel_among_players():
    x = image(1, 1, 48, 48)
    (table,) = tables_of(x, torch.zeros_like(x), 9)

    alone = table.mixed(torch.eye(table.players, dtype=torch.bool))

    assert table.border_cells > 1
    assert torch.allclose(alone.sum(dim=0, keepdim=True), x, atol=1e-5)


def test_no_coalition_is_drawn_twice():
    pairs = drawn_pairs(10, 300, torch.Generator().manual_seed(0))

    rows = {tuple(row) for row in pairs.coalitions(0, len(pairs.members)).tolist()}

    assert len(rows) == 2 * len(pairs.members)


def test_a_budget_below_every_player_alone_is_refused_and_above_it_is_told():
    x = image(1, 1, 48, 48)
    with pytest.raises(BudgetError, match="kernel_shap needs at least"):
        KernelShap().explain(classifier(), x, LOGIT, Settings(budget=Budget(forwards=20)))

    found = KernelShap(settled=1.0).explain(
        classifier(), x, LOGIT, Settings(budget=Budget(forwards=200))
    )

    assert found.cost.forwards <= 200
    assert "the budget is spent" in found.warnings[0]
    assert float(found.residual) < 1e-3


def test_a_black_baseline_is_refused_where_images_are_normalized():
    network = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.InstanceNorm2d(2), nn.Flatten(), nn.LazyLinear(1)
    ).eval()
    network(image(1, 1, 24, 24))

    with pytest.raises(BaselineError, match="normalizes each image by itself"):
        KernelShap(baseline="zero").explain(network, image(1, 1, 24, 24), LOGIT)


def test_lime_gives_the_weights_of_a_linear_model():
    x = image(*SMALL, seed=1)
    weights = torch.arange(1.0, 8.0)
    network = Pieces(x, 7, lambda p: p @ weights[: p.shape[1]]).eval()
    sums = torch.einsum("bchw,phw->p", x, network.masks.to(x.dtype))

    found = Lime(players=7, ridge=0.0).explain(
        network, x, LOGIT, Settings(baseline=torch.zeros_like(x))
    )

    expected = sums * weights[: len(sums)]
    assert torch.allclose(network.of_pieces(found.values), expected, rtol=1e-3, atol=1e-3)
    assert found.warnings == ()


def test_lime_tells_a_fit_that_explains_little():
    x = image(*SMALL, seed=1)
    sign = Pieces(x, 8, lambda p: (p.sum(dim=1) * 1e3).sin()).eval()

    found = Lime(players=8).explain(sign, x, LOGIT, Settings(baseline=torch.zeros_like(x)))

    assert len(found.warnings) == 1


@pytest.mark.parametrize("shape", [(1, 1, 40, 52), (1, 2, 20, 24, 28)], ids=["2D", "3D"])
def test_supervoxels_cover_the_image_without_gaps(shape):
    x = image(*shape)

    labels = supervoxels_of(x, 20)

    assert labels.shape == shape[2:]
    assert sorted(labels.unique().tolist()) == list(range(int(labels.max()) + 1))
    assert 5 <= int(labels.max()) + 1 <= 20
    assert torch.equal(labels, supervoxels_of(x, 20))


def test_air_around_a_body_is_one_piece():
    x = torch.zeros(1, 1, 60, 60)
    x[0, 0, 15:45, 15:45] = 5.0 + 0.5 * image(30, 30)

    labels = supervoxels_of(x, 12)

    air = torch.ones(60, 60, dtype=torch.bool)
    air[13:47, 13:47] = False
    assert labels[air].unique().tolist() == [int(labels.max())]
    assert int(labels.max()) not in labels[18:42, 18:42].unique().tolist()


def test_supervoxels_keep_to_an_edge():
    x = torch.zeros(1, 1, 48, 48)
    x[..., 21:] = 10.0
    x += 0.1 * image(1, 1, 48, 48)

    labels = supervoxels_of(x, 16)

    left, right = ({*part.unique().tolist()} for part in (labels[:, :19], labels[:, 23:]))
    assert not left & right


@pytest.mark.parametrize(
    ("method", "parameters", "message"),
    [
        (KernelShap, {"players": 1}, "expected 2 or more"),
        (KernelShap, {"samples": 3}, "samples is 3, expected at least"),
        (KernelShap, {"settled": 1.5}, "expected a correlation"),
        (Lime, {"samples": 3}, "samples is 3, expected at least"),
    ],
)
def test_parameters_that_mean_nothing_are_refused(method, parameters, message):
    with pytest.raises(ValueError, match=message):
        method(**parameters)


def test_a_linear_model_gets_w_times_the_difference_by_pieces():
    weight, x = image(*SMALL, seed=3), image(*SMALL, seed=4)
    baseline = torch.zeros_like(x)
    labels = supervoxels_of(x, 10)

    found = KernelShap(players=10).explain(
        Linear(weight).eval(), x, LOGIT, Settings(baseline=baseline)
    )

    for piece in labels.unique():
        inside = labels == piece
        expected = (x * weight)[0, 0][inside].sum()
        assert torch.allclose(found.values[0, 0][inside].sum(), expected, atol=1e-4)
