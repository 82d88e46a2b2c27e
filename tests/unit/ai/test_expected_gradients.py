from dataclasses import replace

import numpy as np
import pytest
import torch
from captum.attr import GradientShap
from torch import nn

from ai.errors import BaselineError, BudgetError, ExplanationCancelledError
from ai.explainers.baselines import reference_set
from ai.explainers.draws import draws_of
from ai.explainers.expected_gradients import ExpectedGradients
from ai.model import Budget, Settings
from ai.targets import ClassLogit
from tests.build_networks import Linear, classifier, image


class Product(nn.Module):
    """x1 x2."""

    def forward(self, x):
        return x.flatten(1).prod(1, keepdim=True)


class Cubes(nn.Module):
    """x^3 for each input, summed."""

    def forward(self, x):
        return (x**3).flatten(1).sum(1, keepdim=True)


class Smooth(nn.Module):
    """A smooth classifier."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(
            nn.Conv2d(1, 4, 3, stride=2), nn.Softplus(), nn.Flatten(), nn.Linear(4 * 49, 3)
        )

    def forward(self, x):
        return self.body(x)


X = torch.tensor([[[3.0, -2.0]]])


def test_a_linear_model_gets_w_times_the_difference_to_the_mean_reference():
    weight, x = image(1, 2, 16, 16, seed=1), image(2, 2, 16, 16, seed=2)
    network = Linear(weight, bias=4.0).eval()

    found = ExpectedGradients().explain(network, x, ClassLogit(0))

    references, _ = reference_set(
        network, x, Settings(), count=8, generator=draws_of(Settings()).generator()
    )
    assert torch.allclose(found.values, (x - references.mean(dim=1)) * weight, atol=1e-5)
    assert found.residual.max() < 1e-4
    assert found.cost.forwards == 2 * 41
    assert found.cost.backwards == 2 * 32
    assert found.baseline == "8 blurred copies with noise, 32 samples"


def test_a_product_over_zero_is_split_between_its_factors():
    explainer = ExpectedGradients(tolerance=1e-3)

    found = explainer.explain(
        Product().eval(), X, ClassLogit(0), Settings(baseline=torch.zeros(1, 1, 2))
    )

    # Each factor's gradient is the other's share of the way: its mean is a half.
    assert found.values.flatten().tolist() == pytest.approx([-3.0, -3.0], rel=1e-3)


def test_references_that_differ_give_the_mean_of_their_explanations():
    references = torch.tensor([[[0.0, 0.0]], [[1.0, 4.0]]])

    found = ExpectedGradients(tolerance=1e-3).explain(
        Product().eval(), X, ClassLogit(0), Settings(baseline=references)
    )

    # From (1, 4): 2 * mean of x2 on the way, 1, and -6 * mean of x1, 2.
    assert found.values.flatten().tolist() == pytest.approx([(-3 + 2) / 2, (-3 - 12) / 2], rel=3e-3)
    assert found.f_baseline.item() == (0 + 4) / 2


def test_points_are_drawn_one_in_each_piece_and_kept_when_pieces_are_halved():
    network, seen = Cubes().eval(), []
    network.register_forward_hook(lambda _m, inputs, _o: seen.extend(inputs[0][:, 0, 0].tolist()))
    x = torch.ones(1, 1, 1)

    found = ExpectedGradients(tolerance=1e-9, first_samples=4, most_samples=16).explain(
        network, x, ClassLogit(0), Settings(baseline=torch.zeros(1, 1, 1))
    )

    # Two ends first; with reference 0 and image 1 a point is where it lies on the way.
    points = seen[2:]
    for count in (4, 8, 16):
        assert sorted(int(point * count) for point in points[:count]) == list(range(count))
    assert found.cost.forwards == 2 + 16
    assert found.warnings[0].endswith("wanted 1e-09 (the most samples are reached)")


def test_a_sum_that_is_complete_by_chance_is_refined():
    x, references = torch.ones(1, 1, 1), torch.tensor([[[-1.0]], [[0.0]], [[-2.0]], [[3.0]]])
    settings = Settings(baseline=references)
    coarse = ExpectedGradients(references=4, first_samples=4, most_samples=4, tolerance=1e-9)
    rough = coarse.explain(Cubes().eval(), x, ClassLogit(0), settings)
    lenient = replace(coarse, tolerance=1.01 * rough.residual.item(), most_samples=64)

    found = lenient.explain(Cubes().eval(), x, ClassLogit(0), settings)

    # The error of each way is larger than that of their sum.
    assert found.baseline != rough.baseline == "4 given, 4 samples"
    assert found.warnings == ()


def test_it_is_that_of_captum_in_the_mean():
    network, x, references = Smooth().eval(), image(2, 1, 16, 16), image(4, 1, 16, 16, seed=3)

    ours = ExpectedGradients(tolerance=1e-4, most_samples=512).explain(
        network, x, ClassLogit(2), Settings(baseline=references)
    )

    # captum draws from the global generators of torch and of numpy.
    before = np.random.get_state()  # noqa: NPY002
    with torch.random.fork_rng():
        torch.manual_seed(0)
        np.random.seed(0)  # noqa: NPY002
        captum = torch.stack(
            [
                GradientShap(network).attribute(x, references, n_samples=500, stdevs=0.0, target=2)
                for _ in range(9)
            ]
        )
    np.random.set_state(before)  # noqa: NPY002
    error = captum.std(dim=0) / 3
    assert ((ours.values - captum.mean(dim=0)).abs() <= 6 * error + 1e-6).float().mean() > 0.98
    assert (ours.values - captum.mean(dim=0)).norm() <= 0.05 * captum.mean(dim=0).norm()
    assert ours.residual.max() <= 1e-3


def test_the_seed_decides_and_is_told():
    network, x = classifier(), image(1, 1, 24, 24)

    def explained(seed):
        settings = Settings(generator=torch.Generator().manual_seed(seed))
        return ExpectedGradients(most_samples=32).explain(network, x, ClassLogit(1), settings)

    assert explained(7).seed == 7
    assert torch.equal(explained(7).values, explained(7).values)
    assert not torch.equal(explained(7).values, explained(8).values)


def test_memory_decides_the_batch_and_not_the_answer():
    network, x = classifier(), image(2, 1, 24, 24)

    roomy = ExpectedGradients(most_samples=32).explain(network, x, ClassLogit(1))
    tight = ExpectedGradients(most_samples=32, memory_bytes=1).explain(network, x, ClassLogit(1))

    assert torch.allclose(roomy.values, tight.values, atol=1e-6)


def test_a_spent_budget_leaves_an_honest_result():
    settings = Settings(budget=Budget(forwards=60), baseline=torch.zeros(1, 1, 2))

    found = ExpectedGradients(tolerance=1e-9).explain(Cubes().eval(), X, ClassLogit(0), settings)

    assert found.cost.forwards == 2 + 32
    assert found.warnings[0].endswith("(the budget is spent)")


def test_cancelling_leaves_the_last_finished_rule():
    spent = []
    budget = Budget(
        report=lambda done, total: spent.append((done, total)),
        cancelled=lambda: bool(spent) and spent[-1][0] >= 34,
    )

    found = ExpectedGradients(tolerance=1e-9).explain(
        Cubes().eval(), X, ClassLogit(0), Settings(budget=budget, baseline=torch.zeros(1, 1, 2))
    )

    assert found.warnings[0].endswith("after 32 samples, wanted 1e-09 (cancelled)")
    assert spent[-1] == (34, 34)


def test_cancelling_in_the_first_rule_leaves_nothing():
    spent = []
    budget = Budget(report=lambda done, _total: spent.append(done), cancelled=lambda: bool(spent))

    with pytest.raises(ExplanationCancelledError, match="cancelled in the first samples"):
        ExpectedGradients().explain(
            classifier(), image(1, 1, 24, 24), ClassLogit(0), Settings(budget=budget)
        )


def test_a_budget_below_the_first_rule_is_refused():
    with pytest.raises(BudgetError, match="needs at least 41 forward passes, the budget has 40"):
        ExpectedGradients().explain(
            classifier(), image(1, 1, 24, 24), ClassLogit(0), Settings(budget=Budget(forwards=40))
        )


def test_more_references_than_samples_are_refused():
    with pytest.raises(BaselineError, match="each of 300 references, and most_samples is 256"):
        ExpectedGradients().explain(
            Cubes().eval(), X, ClassLogit(0), Settings(baseline=torch.zeros(300, 1, 2))
        )


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"references": 0}, "references is 0, expected 1 or more"),
        ({"first_samples": 64, "most_samples": 32}, "samples go from 64 to 32"),
        ({"references": 40, "first_samples": 8, "most_samples": 32}, "each of 40 references"),
        ({"tolerance": 0.0}, "tolerance is 0.0, expected a share above 0"),
    ],
)
def test_parameters_that_mean_nothing_are_refused(parameters, message):
    with pytest.raises(ValueError, match=message):
        ExpectedGradients(**parameters)
