import itertools
import math
import re

import pytest
import torch
from captum.attr import KernelShap as CaptumKernelShap
from torch import nn

from ai.errors import BaselineError, BudgetError, ExplanationCancelledError
from ai.explainers.baselines import blurred
from ai.explainers.coalitions import tables_of
from ai.explainers.kernel_shap import KernelShap
from ai.explainers.supervoxels import supervoxels_of
from ai.model import Budget, Settings
from ai.targets import ClassLogit, SegmentMass
from tests.build_networks import Linear, classifier, image, meshnet


class ProductOfCorners(nn.Module):
    """The product of what two opposite corners of the image are on average."""

    def forward(self, x):
        first, last = x[:, :, :4, :4].flatten(1).mean(1), x[:, :, -4:, -4:].flatten(1).mean(1)
        return (first * last)[:, None]


class NearlyLinear(nn.Module):
    """Linear, and a little of how two halves of the image go together."""

    def __init__(self):
        super().__init__()
        self.linear = Linear(image(1, 1, 40, 40, seed=1))

    def forward(self, x):
        upper, lower = x[:, :, :20].flatten(1).mean(1), x[:, :, 20:].flatten(1).mean(1)
        return self.linear(x) + 50 * (upper * lower)[:, None]


class Wavering(nn.Module):
    """The sine of a linear model: hardly anything adds up."""

    def __init__(self):
        super().__init__()
        self.linear = Linear(image(1, 1, 40, 40, seed=1))

    def forward(self, x):
        return torch.sin(self.linear(x) / 4)


class Pieces(nn.Module):
    """A function of the sums of an image's pieces, [B, players] to [B]."""

    def __init__(self, labels, function):
        super().__init__()
        self.labels, self.function = labels, function

    def forward(self, x):
        return self.function(sums_of(x, self.labels))[:, None]


def sums_of(x, labels):
    masks = torch.stack([labels == piece for piece in range(int(labels.max()) + 1)])
    return torch.einsum("bchw,phw->bp", x, masks.to(x))


def table_for(x, fill, players):
    return tables_of(x, fill, players)[0]


def sums(values, labels):
    """Return what each player received, [players]."""
    received = torch.zeros(int(labels.max()) + 1, dtype=torch.float64)
    return received.scatter_add(0, labels.flatten(), values.double().flatten())


def by_definition(network, table):
    """Return the Shapley values of a table's players from all orders of arrival."""
    players = range(table.players)
    values = {}
    for size in range(table.players + 1):
        for members in itertools.combinations(players, size):
            row = torch.zeros(1, table.players, dtype=torch.bool)
            row[0, list(members)] = True
            values[frozenset(members)] = network(table.mixed(row)).double()[0, 0].item()
    shares = torch.zeros(table.players, dtype=torch.float64)
    for order in itertools.permutations(players):
        for position, player in enumerate(order):
            before = frozenset(order[:position])
            shares[player] += values[before | {player}] - values[before]
    return shares / math.factorial(table.players)


def test_a_player_of_a_linear_model_has_what_its_voxels_add():
    network, x = Linear(image(1, 2, 12, 12, seed=1), bias=2.0).eval(), image(1, 2, 12, 12)
    labels = supervoxels_of(x, 9)

    found = KernelShap(players=9, baseline="zero").explain(network, x, ClassLogit(0))

    added = sums((x * network.weight).sum(dim=1).detach(), labels)
    assert torch.allclose(sums(found.values, labels), added, atol=1e-5)
    assert found.f_baseline.item() == pytest.approx(2.0)
    assert found.residual.item() <= 1e-6


def test_values_are_spread_evenly_over_a_player():
    x = image(1, 1, 30, 30)
    labels = supervoxels_of(x, 8)

    found = KernelShap(players=8).explain(classifier(), x, ClassLogit(0))

    for player in range(int(labels.max()) + 1):
        assert len(found.values[0, 0][labels == player].unique()) == 1


def test_two_factors_of_a_product_have_half_each():
    x = torch.zeros(1, 1, 24, 24)
    x[..., :12, :12], x[..., 12:, 12:] = 3.0, 5.0
    labels = supervoxels_of(x, 4)

    found = KernelShap(players=4, baseline="zero").explain(
        ProductOfCorners().eval(), x, ClassLogit(0)
    )

    worth = sums(found.values, labels)
    assert worth[labels[0, 0]].item() == pytest.approx(7.5, rel=1e-6)
    assert worth[labels[-1, -1]].item() == pytest.approx(7.5, rel=1e-6)
    assert worth.sum().item() == pytest.approx(15.0, rel=1e-6)


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
def test_hard_pieces_have_what_they_add_on_average_over_all_orders(function):
    x = image(1, 1, 12, 12, seed=1).double()
    labels = supervoxels_of(x, 6)
    network = Pieces(labels, function).eval()

    found = KernelShap(players=6, baseline="zero").explain(network, x, ClassLogit(0))

    sums = sums_of(x, labels)[0]
    exact = torch.zeros_like(sums)
    orders = list(itertools.permutations(range(len(sums))))
    for order in orders:
        shown = torch.zeros(1, len(sums), dtype=torch.float64)
        for player in order:
            before = function(shown).item()
            shown[0, player] = sums[player]
            exact[player] += (function(shown).item() - before) / len(orders)
    assert torch.allclose(sums_of(found.values, labels)[0].double(), exact, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(1, 1, 40, 40), (1, 2, 16, 24, 20)], ids=["2D", "3D"])
def test_few_players_have_their_values_by_definition(shape):
    network = classifier(axes=len(shape) - 2, channels=shape[1], classes=1).double()
    x = image(*shape).double()
    table = table_for(x, blurred(x), 6)

    found = KernelShap(players=6).explain(network, x, ClassLogit(0))

    exact = by_definition(network, table)
    worth = sums(found.values, table.labels)
    assert (worth - exact).abs().max() <= 1e-6 * exact.abs().max()
    assert found.cost.forwards == 2**table.players
    assert found.warnings == ()


def test_ten_players_are_exact_by_default():
    network, x = classifier(), image(1, 1, 40, 40)

    found = KernelShap(players=10).explain(network, x, ClassLogit(1))
    another = KernelShap(players=10).explain(
        network, x, ClassLogit(1), Settings(generator=torch.Generator().manual_seed(7))
    )

    assert found.cost.forwards == 2 ** (int(supervoxels_of(x, 10).max()) + 1)
    assert torch.allclose(found.values, another.values, rtol=1e-4, atol=1e-9)
    assert (found.seed, another.seed) == (0, 7)


def test_captum_agrees_in_the_limit():
    network, x = classifier(classes=1), image(1, 1, 12, 12)
    table = table_for(x, blurred(x), 6)
    # captum has no soft borders; of so small pieces ours have none either.
    assert table.border_cells == 1
    torch.manual_seed(0)

    found = KernelShap(players=6).explain(network, x, ClassLogit(0))
    theirs = CaptumKernelShap(network).attribute(
        x,
        blurred(x),
        feature_mask=table.labels[None, None],
        n_samples=2000,
        perturbations_per_eval=100,
        return_input_shape=False,
    )

    worth = sums(found.values, table.labels)
    assert (worth - theirs[0]).abs().max() <= 0.05 * worth.abs().max()


def test_many_players_sum_to_the_gain_and_come_near_their_exact_values():
    network, x = NearlyLinear().eval(), image(1, 1, 40, 40)
    table = table_for(x, blurred(x), 40)

    found = KernelShap(players=40).explain(network, x, ClassLogit(0))

    assert found.residual.item() <= 1e-6
    added = torch.stack(
        [
            (network.linear.weight * (table.mixed(row[None]) - table.fill)).sum()
            for row in torch.eye(table.players, dtype=torch.bool)
        ]
    )
    together = torch.stack([sums(found.values, table.labels), added.double().detach()])
    assert float(torch.corrcoef(together)[0, 1]) > 0.95
    assert found.warnings == ()


def test_it_stops_when_the_values_are_settled():
    network, x = Linear(image(1, 1, 40, 40, seed=1)).eval(), image(1, 1, 40, 40)
    players = table_for(x, blurred(x), 0).players

    found = KernelShap().explain(network, x, ClassLogit(0))

    # Ends, single players, and the first look once twice as many pairs were drawn.
    rounds = math.ceil(2 * players / 32)
    assert found.cost.forwards == 2 + 2 * players + 64 * rounds
    assert found.warnings == ()


def test_values_that_do_not_settle_are_told():
    network, x = Wavering().eval(), image(1, 1, 40, 40)

    found = KernelShap(players=20, samples=150).explain(network, x, ClassLogit(0))

    assert found.cost.forwards == 150
    assert found.residual.item() <= 1e-6
    (told,) = found.warnings
    assert re.fullmatch(
        r"the values' correlation with the exact ones is about 0\.\d\d after 150 of 150 "
        r"coalitions, wanted 0\.95 \(the most samples\)",
        told,
    )


@pytest.mark.parametrize(
    ("budget", "reason"),
    [
        (Budget(forwards=60), "after 60 of 1024 coalitions, wanted 0.95 (the budget is spent)"),
        (Budget(cancelled=None), ""),
    ],
    ids=["budget", "cancelled"],
)
def test_what_was_played_until_the_end_counts(budget, reason):
    network, x = classifier(), image(1, 1, 40, 40)
    spent = []
    if not reason:
        budget = Budget(
            report=lambda done, _total: spent.append(done),
            cancelled=lambda: bool(spent) and spent[-1] >= 55,
        )
        reason = "after 54 of 1024 coalitions, wanted 0.95 (cancelled)"

    found = KernelShap(players=20, memory_bytes=1).explain(
        network, x, ClassLogit(0), Settings(budget=budget)
    )

    assert found.warnings[0].endswith(reason)
    assert found.residual.item() <= 1e-6
    assert found.values.abs().sum() > 0


def test_a_budget_is_shared_by_the_entries_of_a_batch():
    network, x = classifier(), image(2, 1, 40, 40)

    found = KernelShap(players=20).explain(
        network, x, ClassLogit(0), Settings(budget=Budget(forwards=151))
    )

    assert found.cost.forwards in {149, 150, 151}
    assert found.residual.max().item() <= 1e-6


def test_a_budget_below_each_player_alone_and_missing_is_refused():
    x = image(1, 1, 40, 40)
    least = 2 * (int(supervoxels_of(x, 20).max()) + 1) + 2

    with pytest.raises(BudgetError, match=f"at least {least} forward passes, the budget has 30"):
        KernelShap(players=20).explain(
            classifier(), x, ClassLogit(0), Settings(budget=Budget(forwards=30))
        )


def test_a_cancellation_before_that_leaves_nothing():
    spent = []
    budget = Budget(
        report=lambda done, _total: spent.append(done),
        cancelled=lambda: bool(spent) and spent[-1] >= 9,
    )

    with pytest.raises(ExplanationCancelledError, match="was seen alone and missed once"):
        KernelShap(players=20, memory_bytes=1).explain(
            classifier(), image(1, 1, 40, 40), ClassLogit(0), Settings(budget=budget)
        )


def test_a_segment_is_explained_by_the_air_too():
    network = meshnet()
    x = torch.full((1, 1, 16, 16, 16), -2.0)
    x[..., 3:13, 3:13, 3:13] += image(1, 1, 10, 10, 10) + 3
    mask = torch.zeros(16, 16, 16, dtype=torch.bool)
    mask[6:10, 6:10, 6:10] = True

    found = KernelShap(players=8).explain(network, x, SegmentMass(1, mask))

    assert found.residual.item() <= 1e-5
    air = found.values[0, 0][x[0, 0] == -2]
    assert len(air.unique()) == 1
    assert air[0] != 0


def test_memory_decides_the_batch_and_not_the_answer():
    network, x = classifier(), image(1, 1, 40, 40)

    roomy = KernelShap(players=12, samples=64).explain(network, x, ClassLogit(1)).values
    tight = KernelShap(players=12, samples=64, memory_bytes=1).explain(network, x, ClassLogit(1))

    assert torch.allclose(roomy, tight.values, atol=1e-6)


def test_soft_borders_share_each_voxel_among_players():
    x = image(1, 2, 48, 48)
    table = table_for(x, torch.zeros_like(x), 9)

    alone = table.mixed(torch.eye(table.players, dtype=torch.bool))

    assert table.border_cells == 4
    assert torch.allclose(alone.sum(dim=0, keepdim=True), x, atol=1e-5)
    steps = (alone / x)[:, 0].diff(dim=1).abs().amax()
    assert steps < 0.6


def test_a_black_baseline_is_refused_where_images_are_normalized():
    network = nn.Sequential(nn.InstanceNorm2d(1), nn.Flatten(), nn.Linear(576, 1)).eval()

    with pytest.raises(BaselineError, match="normalizes each image by itself"):
        KernelShap(baseline="zero").explain(network, image(1, 1, 24, 24), ClassLogit(0))


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"players": 1}, "players is 1, expected 2 or more"),
        ({"players": 30, "samples": 61}, "samples is 61, expected at least 62: up to 30 players"),
        ({"samples": 128}, "expected at least 130: up to 64 players"),
        ({"settled": 0.0}, "settled is 0.0, expected a correlation"),
    ],
)
def test_parameters_that_mean_nothing_are_refused(parameters, message):
    with pytest.raises(ValueError, match=message):
        KernelShap(**parameters)
