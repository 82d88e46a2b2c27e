import pytest
import torch
from captum._utils.models.linear_model import SkLearnRidge
from captum.attr import Lime as CaptumLime
from sklearn.linear_model import Ridge
from torch import nn

from ai.errors import BudgetError, ExplanationCancelledError
from ai.explainers.baselines import blurred
from ai.explainers.coalitions import tables_of
from ai.explainers.draws import draws_of
from ai.explainers.lime import Lime, ridge_fit
from ai.explainers.supervoxels import supervoxels_of
from ai.model import Budget, Settings
from ai.targets import ClassLogit
from tests.build_networks import Linear, classifier, image


class Parity(nn.Module):
    """1 if an odd number of the four quarters is bright, else 0: no sum of quarters."""

    def forward(self, x):
        quarters = nn.functional.adaptive_avg_pool2d(x, 2).flatten(1) > 0.5
        return (quarters.sum(dim=1) % 2).float()[:, None]


def sums(values, labels):
    """Return what each supervoxel received, [players]."""
    received = torch.zeros(int(labels.max()) + 1, dtype=torch.float64)
    return received.scatter_add(0, labels.flatten(), values.double().flatten())


def quarters():
    """Return an image of four bright quarters, of which none is quite like another."""
    x = torch.ones(1, 1, 24, 24)
    x[..., :12, :12], x[..., 12:, 12:] = 1.5, 2.0
    x[..., 12:, :12] = 2.5
    return x


def test_a_linear_model_has_its_own_weights():
    network, x = Linear(image(1, 2, 40, 40, seed=1), bias=2.0).eval(), image(1, 2, 40, 40)
    (table,) = tables_of(x, blurred(x), 0)

    found = Lime().explain(network, x, ClassLogit(0))
    unbiased = Lime(ridge=0.0).explain(network, x, ClassLogit(0))

    alone = table.mixed(torch.eye(table.players, dtype=torch.bool)) - table.fill
    added = (alone * network.weight).double().sum(dim=(1, 2, 3)).detach()
    assert torch.allclose(sums(unbiased.values, table.labels), added, rtol=1e-3, atol=1e-3)
    assert (sums(found.values, table.labels) - added).abs().max() <= 0.02 * added.abs().max()
    assert found.warnings == ()
    assert found.residual is None


def test_weights_are_those_of_scikit_learn():
    generator = torch.Generator().manual_seed(0)
    members = (torch.rand(40, 6, generator=generator) < 0.5).double()
    values = torch.randn(40, generator=generator, dtype=torch.float64)
    nearness = torch.rand(40, generator=generator, dtype=torch.float64)

    weights, explained = ridge_fit(members, values, nearness, 0.1)

    theirs = Ridge(alpha=0.1 * float(nearness.sum())).fit(members, values, nearness)
    assert torch.allclose(weights, torch.from_numpy(theirs.coef_), atol=1e-10)
    assert explained == pytest.approx(theirs.score(members, values, nearness))


def test_captum_agrees_on_the_same_coalitions():
    network, x, method = classifier(classes=1), image(1, 1, 12, 12), Lime(players=6, samples=60)
    (table,) = tables_of(x, blurred(x), 6)
    drawn = torch.rand(60, table.players, generator=draws_of(Settings()).generator()) < 0.5
    drawn[0] = True

    def given(_x, **_):
        yield from drawn.long().split(1)

    def near(_x, _changed, coalition, **_):
        distance = 1 - coalition.double().mean().sqrt()
        return torch.exp(-(distance**2) / method.kernel_width**2)

    total = float(sum(near(None, None, row) for row in drawn))
    theirs = CaptumLime(network, SkLearnRidge(alpha=method.ridge * total), near, given).attribute(
        x,
        blurred(x),
        feature_mask=table.labels[None, None],
        n_samples=60,
        return_input_shape=False,
    )

    found = method.explain(network, x, ClassLogit(0))

    worth = sums(found.values, table.labels)
    assert (worth - theirs[0]).abs().max() <= 1e-4 * worth.abs().max()


def test_a_poor_fit_is_told():
    found = Lime(players=4, samples=64, baseline="zero").explain(
        Parity().eval(), quarters(), ClassLogit(0)
    )

    (told,) = found.warnings
    assert told.startswith("the linear model explains")
    assert told.endswith("% of the target: a poor fit")


def test_a_target_that_nothing_changes_has_no_weights():
    found = Lime(players=4, samples=64).explain(
        Linear(torch.zeros(1, 1, 24, 24), bias=1.0).eval(), quarters(), ClassLogit(0)
    )

    assert found.values.abs().max() <= 1e-9
    assert found.warnings == ()


def test_what_was_drawn_until_the_budget_ended_counts():
    network, x = Linear(image(1, 1, 40, 40, seed=1)).eval(), image(2, 1, 40, 40)

    found = Lime(players=10, samples=100).explain(
        network, x, ClassLogit(0), Settings(budget=Budget(forwards=80))
    )

    assert found.cost.forwards == 80
    assert found.warnings == ("fitted to 40 of 100 coalitions (the budget is spent)",)


def test_a_budget_below_the_unknowns_is_refused():
    x = image(1, 1, 40, 40)
    least = int(supervoxels_of(x, 10).max()) + 3

    with pytest.raises(BudgetError, match=f"at least {least} forward passes, the budget has 8"):
        Lime(players=10).explain(
            classifier(), x, ClassLogit(0), Settings(budget=Budget(forwards=8))
        )


def test_a_cancellation_is_told_or_leaves_nothing():
    spent = []

    def budget(most):
        spent.clear()
        return Budget(
            report=lambda done, _total: spent.append(done),
            cancelled=lambda: bool(spent) and spent[-1] >= most,
        )

    def ask(most):
        method = Lime(players=10, samples=50, memory_bytes=1)
        settings = Settings(budget=budget(most))
        return method.explain(classifier(), image(1, 1, 40, 40), ClassLogit(0), settings)

    assert ask(30).warnings[0] == "fitted to 30 of 50 coalitions (cancelled)"
    with pytest.raises(ExplanationCancelledError, match="after 6 coalitions, too few to weigh"):
        ask(6)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"players": -1}, "players is -1, expected 2 or more"),
        ({"players": 9, "samples": 10}, "samples is 10, expected at least 11"),
        ({"kernel_width": 0.0}, "expected a width above 0"),
        ({"ridge": -1.0}, "expected a width above 0 and a penalty of 0 or more"),
    ],
)
def test_parameters_that_mean_nothing_are_refused(parameters, message):
    with pytest.raises(ValueError, match=message):
        Lime(**parameters)
