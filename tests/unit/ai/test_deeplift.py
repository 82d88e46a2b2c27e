import itertools

import pytest
import torch
from captum.attr import DeepLift
from torch import nn
from torch.nn import functional

from ai.capture import private_copy
from ai.errors import BaselineError, UndifferentiableError, UnsuitableLayerError
from ai.explainers.baselines import blurred
from ai.explainers.deeplift import DeepLIFT, DeepLIFTSHAP, contributions
from ai.model import Budget, Settings
from ai.targets import ClassLogit
from tests.build_networks import Linear, classifier, image

X = torch.tensor([[[1.0, 2.0, -3.0]]])
X0 = torch.tensor([[[-1.0, 1.5, -2.0]]])


class Of(nn.Module):
    """A network of one function of [B, 1, N], whose values are summed to one logit."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x).flatten(1).sum(dim=1, keepdim=True)


def explained(function, x=X, reference=X0):
    return DeepLIFT().explain(Of(function).eval(), x, ClassLogit(0), Settings(baseline=reference))


def test_a_linear_model_gets_w_times_the_difference_to_the_blur():
    weight, x = image(1, 1, 32, 32, seed=1), image(1, 1, 32, 32, seed=2)

    found = DeepLIFT().explain(Linear(weight, bias=3.0).eval(), x, ClassLogit(0))

    assert torch.allclose(found.values, (x - blurred(x)) * weight, atol=1e-5)
    assert float(found.residual) < 1e-4


def test_an_additive_model_gets_what_each_voxel_gained():
    found = explained(lambda x: functional.softplus(x) + x**3)

    gained = functional.softplus(X) + X**3 - functional.softplus(X0) - X0**3
    assert torch.allclose(found.values, gained, atol=1e-5)


def test_a_kink_is_crossed_by_its_slope_and_not_by_its_derivative():
    found = explained(functional.relu)

    assert torch.allclose(found.values, torch.tensor([[[1.0, 0.5, 0.0]]]))


def test_a_product_is_shared_as_shapley_shares_it():
    found = explained(lambda x: x[..., 0] * x[..., 1])

    # From -1 * 1.5 to 1 * 2: either factor first, and the mean of both orders.
    assert torch.allclose(found.values, torch.tensor([[[3.5, 0.0, 0.0]]]))
    assert float(found.residual) < 1e-6


def test_where_nothing_changed_the_derivative_counts():
    def function(x):
        return torch.tanh(x[..., :1]) * torch.exp(x[..., 1:2])

    reference = X0.clone()
    reference[..., 0] = X[..., 0]

    found = explained(function, reference=reference)

    assert found.values[0, 0, 0] == 0
    assert float(found.residual) < 1e-6


def test_overlapping_maxima_are_complete():
    x, reference = image(2, 3, 9, 9, seed=3), image(2, 3, 9, 9, seed=4)

    found = explained(lambda x: functional.max_pool2d(x, 3, 2, 1) ** 2, x, reference)

    assert float(found.residual.max()) < 1e-5


@pytest.mark.parametrize(
    "function",
    [
        lambda x: functional.relu(x.mul(2), inplace=True) + functional.elu_(x.mul(2)),
        lambda x: functional.leaky_relu(x.mul(2), 0.1, True),
        lambda x: x.add(1).mul_(3).sub_(2).tanh_(),
        lambda x: x.sigmoid().add_(x).square_().mul_(x),
        lambda x: torch.amax(x, dim=-1) + x.max(dim=-1).values,
        lambda x: torch.maximum(x, x.flip(-1)) + torch.minimum(x, 0.5 * x.flip(-1)),
        lambda x: functional.adaptive_max_pool1d(x, 2),
        lambda x: functional.layer_norm(
            x, (3,), torch.tensor([1.0, 2.0, 3.0]), torch.ones(3)
        ).exp(),
        lambda x: functional.group_norm(x.mT.repeat(1, 2, 1), 2).exp(),
        lambda x: functional.instance_norm(x).exp(),
        lambda x: functional.normalize(x, dim=-1),
        lambda x: functional.glu(x.repeat(1, 1, 2)),
        lambda x: (5 - x) / 2 + 3 / (x + 9) + x / (x.abs() + 1),
        lambda x: x**3 + torch.exp(x) + x.pow(2).add(1).sqrt(),
        lambda x: torch.logsumexp(x, dim=-1) + functional.log_softmax(x, dim=-1).amax(-1),
        lambda x: torch.einsum("bcn,bcm->bnm", x, x),
        lambda x: x.softmax(dim=-1) * x,
        lambda x: (40 * x).softmax(dim=-1) * x,
        lambda x: functional.scaled_dot_product_attention(x, 2 * x, x),
        lambda x: functional.scaled_dot_product_attention(x.mT, x.mT, x.mT, is_causal=True),
    ],
)
def test_whatever_a_network_calls_is_complete(function):
    found = explained(function)

    assert float(found.residual) < 2e-5
    assert found.warnings == ()
    assert torch.allclose(found.f_x, Of(function)(X)[:, 0], atol=1e-5)
    assert torch.allclose(found.f_baseline, Of(function)(X0)[:, 0], atol=1e-5)


def test_torch_s_own_transformer_is_complete():
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, dim_feedforward=16, batch_first=True)
    network = nn.Sequential(nn.TransformerEncoder(layer, 2), nn.Flatten(), nn.Linear(40, 2)).eval()

    found = DeepLIFT().explain(network, image(3, 5, 8), ClassLogit(1))

    assert float(found.residual.max()) < 1e-4


@pytest.mark.filterwarnings("ignore:Input Tensor 0 did not already:UserWarning")
@pytest.mark.filterwarnings("ignore:Setting forward, backward hooks:UserWarning")
def test_a_pool_free_network_is_explained_as_captum_explains_it():
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(1, 4, 3, 2), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.Tanh(), nn.Flatten(),
        nn.Linear(4 * 25, 2),
    ).double().eval()  # fmt: skip
    x, reference = (image(2, 1, 16, 16, seed=seed).double() for seed in (1, 2))

    values, _, _ = contributions(private_copy(network), x, reference, ClassLogit(1), {})

    expected = DeepLift(network).attribute(x.clone(), reference, target=1).detach()
    assert (values - expected).abs().max() <= 1e-12 * expected.abs().max()


def test_what_the_reference_left_behind_is_not_overwritten_in_place():
    def function(x):
        y = x.exp()
        product = y * x
        y.mul_(0)  # the tape still needs what y was
        return product + y

    assert float(explained(function).residual) < 1e-6


def test_a_network_that_takes_another_way_on_the_reference_is_refused():
    with pytest.raises(UndifferentiableError, match="takes another way"):
        explained(lambda x: x.tanh() if x.sum() > -1 else x.exp(), reference=X0)


def test_a_function_without_a_rule_is_named_where_it_is_not_complete():
    found = explained(lambda x: torch.cumprod(x, dim=-1))

    assert "there is no rule for cumprod" in found.warnings[0]


def test_a_constant_output_has_nothing_to_explain():
    with pytest.raises(UnsuitableLayerError, match="does not depend on the input"):
        explained(torch.ones_like)


def test_a_constant_baseline_is_refused_where_images_are_normalized():
    network = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.InstanceNorm2d(2), nn.Flatten(), nn.Linear(72, 1)
    )

    with pytest.raises(BaselineError, match="normalizes each image by itself"):
        DeepLIFT(baseline="zero").explain(network.eval(), image(1, 1, 8, 8), ClassLogit(0))


def shapley_values(function, x, reference):
    """Return exact Shapley values of the voxels of [1, 1, N], by all orders."""
    count = x.shape[-1]
    values = torch.zeros(count)
    orders = list(itertools.permutations(range(count)))
    for order in orders:
        current = reference.clone()
        for player in order:
            before = Of(function)(current).item()
            current[..., player] = x[..., player]
            values[player] += (Of(function)(current).item() - before) / len(orders)
    return values.reshape(1, 1, count)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: 2 * x + 1,
        lambda x: torch.tanh(x) + x**2,
        lambda x: x[..., 0] * x[..., 1] - x[..., 2],
    ],
    ids=["linear", "additive", "two factors"],
)
def test_the_mean_over_references_is_shapley_s_where_factors_are_two(function):
    references = torch.cat([X0, X0 + 1, -X])

    found = DeepLIFTSHAP().explain(
        Of(function).eval(), X, ClassLogit(0), Settings(baseline=references)
    )

    exact = torch.stack([shapley_values(function, X, each[None]) for each in references])
    assert torch.allclose(found.values, exact.mean(dim=0), atol=1e-5)
    assert float(found.residual) < 1e-5


def test_a_budget_ends_after_some_references_and_says_so():
    settings = Settings(budget=Budget(forwards=5))

    found = DeepLIFTSHAP(references=4).explain(
        classifier(), image(1, 1, 48, 48), ClassLogit(1), settings
    )

    assert found.cost.forwards == 4
    assert found.warnings[0] == "2 of 4 references: the budget or the caller ended it"
    assert float(found.residual) < 1e-4


def test_no_references_are_refused():
    with pytest.raises(ValueError, match="at least 1"):
        DeepLIFTSHAP(references=0)
