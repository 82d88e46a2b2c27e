import pytest
import torch
from captum.attr import IntegratedGradients as CaptumIntegratedGradients
from torch import nn

from ai.errors import BaselineError, BudgetError, UndifferentiableError
from ai.explainers.baselines import blurred
from ai.explainers.integrated_gradients import IntegratedGradients
from ai.model import Budget, Settings
from ai.targets import ClassLogit, SegmentMass
from benchmarks.networks import MATRIX
from tests.build_networks import Linear, classifier, image

X = torch.tensor([[[1.0, 2.0, 3.0]]])


class Cubes(nn.Module):
    """x^3 for each input, summed: the gradient along the way is 3 p^2 x^2."""

    def forward(self, x):
        return (x**3).flatten(1).sum(1, keepdim=True)


class Smooth(nn.Module):
    """A smooth classifier, on which a fine rule of any kind is exact."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(
            nn.Conv2d(1, 4, 3, stride=2), nn.Softplus(), nn.Flatten(), nn.Linear(4 * 49, 3)
        )

    def forward(self, x):
        return self.body(x)


def test_a_linear_model_gets_w_times_x_in_the_fewest_steps():
    weight, x = image(2, 3, 6, 5, seed=1), image(2, 3, 6, 5, seed=2)

    found = IntegratedGradients(baseline="zero").explain(
        Linear(weight, bias=4.0).eval(), x, ClassLogit(1)
    )

    assert torch.allclose(found.values, x * weight[1], atol=1e-6)
    assert found.residual.max() < 1e-5
    assert found.cost.forwards == 2 * 9
    assert found.f_baseline.tolist() == [4.0, 4.0]


def test_a_linear_model_gets_w_times_the_difference_to_the_blur():
    weight, x = image(1, 1, 32, 32, seed=1), image(1, 1, 32, 32, seed=2)

    found = IntegratedGradients().explain(Linear(weight).eval(), x, ClassLogit(0))

    assert torch.allclose(found.values, (x - blurred(x)) * weight, atol=1e-5)


def test_steps_double_until_the_residual_is_met_and_nothing_is_computed_twice():
    network, passes = Cubes().eval(), []
    network.register_forward_hook(lambda _m, inputs, _o: passes.append(inputs[0].shape[0]))

    found = IntegratedGradients(baseline="zero", tolerance=2e-3).explain(network, X, ClassLogit(0))

    # The trapezoid rule overrates the integral of 3 p^2 by 1 / (2 n^2): .0078 at 8, .00195 at 16.
    assert found.residual.item() == pytest.approx(1 / (2 * 16**2), rel=1e-3)
    assert found.baseline == "zero, 16 steps"
    assert sum(passes) == found.cost.forwards == 17
    assert torch.allclose(found.values, X**3, rtol=3e-3)


class Kinks(nn.Module):
    """Bends at 1.25 and at 4.75: rules of step 1 err there by a quarter, up and down."""

    def forward(self, x):
        x = x.flatten(1)
        return (x - 1.25).relu() + (x - 4.75).relu()


def test_a_rule_that_is_complete_by_chance_is_refined():
    x = torch.tensor([[[8.0]]])

    found = IntegratedGradients(baseline="zero").explain(Kinks().eval(), x, ClassLogit(0))

    assert found.cost.forwards == 17
    assert found.residual.item() == 0.0
    assert found.warnings == ()


def test_a_rule_that_stays_complete_by_chance_says_so():
    x = torch.tensor([[[8.0]]])

    found = IntegratedGradients(baseline="zero", most_steps=8).explain(
        Kinks().eval(), x, ClassLogit(0)
    )

    assert found.residual.item() == 0.0
    assert found.warnings == (
        "residual 0 after 8 steps, wanted 0.01, but by chance: single errors make 0.035 "
        "(the most steps are reached)",
    )


def test_refinement_that_ends_early_says_how_far_it_came():
    found = IntegratedGradients(baseline="zero", tolerance=1e-9, most_steps=16).explain(
        Cubes().eval(), X, ClassLogit(0)
    )

    assert found.warnings == (
        "residual 0.002 after 16 steps, wanted 1e-09 (the most steps are reached)",
    )


def test_an_entry_is_refined_by_itself_and_the_finest_rule_is_named():
    curved, straight = torch.tensor([[[1.0]]]), torch.tensor([[[0.0]]])
    explainer = IntegratedGradients(baseline="zero", tolerance=2e-3)

    found = explainer.explain(Cubes().eval(), torch.cat([curved, straight]), ClassLogit(0))

    assert found.cost.forwards == 17 + 9
    assert found.baseline == "zero, 16 steps"
    assert found.values[1].item() == 0.0


def test_entries_share_a_budget_evenly():
    settings = Settings(budget=Budget(forwards=40))
    explainer = IntegratedGradients(baseline="zero", tolerance=1e-9)

    found = explainer.explain(Cubes().eval(), torch.cat([X, 2 * X]), ClassLogit(0), settings)

    # 20 for the first, which takes 17, and 23 for the second: 9, and 8 more.
    assert found.cost.forwards == 34
    assert torch.allclose(found.values, torch.cat([X, 2 * X]) ** 3, rtol=3e-3)


def test_a_spent_budget_leaves_an_honest_result():
    settings = Settings(budget=Budget(forwards=20))

    found = IntegratedGradients(baseline="zero", tolerance=1e-9).explain(
        Cubes().eval(), X, ClassLogit(0), settings
    )

    assert found.cost.forwards == 17
    assert found.warnings[0].endswith("(the budget is spent)")


def test_cancelling_leaves_the_last_finished_rule():
    done = []
    settings = Settings(
        budget=Budget(report=lambda spent, _total: done.append(spent), cancelled=lambda: bool(done))
    )

    found = IntegratedGradients(baseline="zero", tolerance=1e-9).explain(
        Cubes().eval(), X, ClassLogit(0), settings
    )

    assert found.warnings[0].endswith("after 8 steps, wanted 1e-09 (cancelled)")


def test_a_budget_below_the_first_rule_is_refused():
    with pytest.raises(BudgetError, match="needs at least 9 forward passes, the budget has 8"):
        IntegratedGradients().explain(
            Cubes().eval(), X, ClassLogit(0), Settings(budget=Budget(forwards=8))
        )


def test_it_agrees_with_captum_where_both_are_fine_enough():
    network, x = Smooth().eval(), image(2, 1, 16, 16)

    ours = IntegratedGradients(tolerance=1e-6, most_steps=512).explain(network, x, ClassLogit(2))

    captum = CaptumIntegratedGradients(network).attribute(
        x, blurred(x), target=2, n_steps=200, method="gausslegendre"
    )
    assert (ours.values - captum).abs().max() <= 1e-4 * captum.abs().max()
    assert ours.residual.max() <= 1e-4


def test_memory_decides_the_batch_and_not_the_answer():
    network, x = classifier(), image(2, 1, 48, 48)

    roomy = IntegratedGradients(most_steps=16).explain(network, x, ClassLogit(1))
    tight = IntegratedGradients(most_steps=16, memory_bytes=1).explain(network, x, ClassLogit(1))

    assert torch.allclose(roomy.values, tight.values, atol=1e-6)


@pytest.mark.parametrize("normalization", [nn.InstanceNorm2d(4), nn.GroupNorm(2, 4)])
def test_a_constant_baseline_is_refused_where_the_network_normalizes_each_image(normalization):
    network = nn.Sequential(
        nn.Conv2d(1, 4, 3), normalization, nn.Flatten(), nn.Linear(4 * 36, 2)
    ).eval()
    x = image(1, 1, 8, 8)

    with pytest.raises(BaselineError, match=r"layer '1'.*use the blurred one"):
        IntegratedGradients(baseline="zero").explain(network, x, ClassLogit(0))
    with pytest.raises(BaselineError, match=r"constant baseline \(given\)"):
        IntegratedGradients().explain(
            network, x, ClassLogit(0), Settings(baseline=torch.full_like(x, 3.0))
        )


def test_a_given_baseline_may_serve_the_whole_batch():
    weight, x = image(1, 1, 6, 5, seed=1), image(2, 1, 6, 5, seed=2)
    reference = image(1, 1, 6, 5, seed=3)

    found = IntegratedGradients().explain(
        Linear(weight).eval(), x, ClassLogit(0), Settings(baseline=reference)
    )

    assert torch.allclose(found.values, (x - reference) * weight, atol=1e-6)


@pytest.mark.parametrize(
    ("baseline", "message"),
    [
        (torch.zeros(1, 1, 4, 4), r"\(1, 1, 4, 4\) must be finite and of shape \(2, 1, 6, 5\)"),
        (torch.full((1, 1, 6, 5), float("inf")), "must be finite"),
    ],
)
def test_a_baseline_that_does_not_fit_is_refused(baseline, message):
    with pytest.raises(BaselineError, match=message):
        IntegratedGradients().explain(
            Linear(image(1, 1, 6, 5)).eval(),
            image(2, 1, 6, 5),
            ClassLogit(0),
            Settings(baseline=baseline),
        )


def test_a_baseline_of_unknown_kind_is_refused():
    with pytest.raises(BaselineError, match="'black' is not known; expected 'blur' or 'zero'"):
        IntegratedGradients(baseline="black").explain(
            Linear(image(1, 1, 6, 5)).eval(), image(1, 1, 6, 5), ClassLogit(0)
        )


def test_a_target_without_a_gradient_is_refused():
    with pytest.raises(UndifferentiableError, match="no gradient at the input"):
        IntegratedGradients().explain(
            Linear(image(1, 1, 6, 5)).eval(),
            image(1, 1, 6, 5),
            lambda output, x: torch.zeros(x.shape[0]),
        )


class Product(nn.Module):
    """x1 x2."""

    def forward(self, x):
        return x.flatten(1).prod(1, keepdim=True)


def test_a_product_is_split_between_its_factors():
    x = torch.tensor([[[3.0, -2.0]]])

    found = IntegratedGradients(baseline="zero").explain(Product().eval(), x, ClassLogit(0))

    assert found.values.flatten().tolist() == pytest.approx([-3.0, -3.0])


def test_a_sum_over_voxels_gives_each_its_own_gain():
    x = torch.tensor([[[1.0, -2.0, 0.5]]])

    found = IntegratedGradients(baseline="zero", tolerance=1e-5, most_steps=1024).explain(
        Cubes().eval(), x, ClassLogit(0)
    )

    assert found.values.flatten().tolist() == pytest.approx([1.0, -8.0, 0.125], rel=1e-4)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"first_steps": 0}, "steps go from 0 to 256"),
        ({"first_steps": 16, "most_steps": 8}, "steps go from 16 to 8"),
        ({"tolerance": 0.0}, "tolerance is 0.0, expected a share above 0"),
    ],
)
def test_parameters_that_mean_nothing_are_refused(parameters, message):
    with pytest.raises(ValueError, match=message):
        IntegratedGradients(**parameters)


def test_black_is_no_baseline_for_a_dynunet_and_the_blur_is():
    specimen, extents = MATRIX["DynUNet"], (16, 16, 16)
    network, x = specimen.network(extents), specimen.image(extents)
    target = SegmentMass(1, network(x)[0].argmax(dim=0) == 1)

    with pytest.raises(BaselineError, match=r"constant baseline \(zero\).*use the blurred one"):
        IntegratedGradients(baseline="zero").explain(network, x, target)
    found = IntegratedGradients().explain(network, x, target)

    assert found.residual.item() <= 0.01
    assert found.warnings == ()
