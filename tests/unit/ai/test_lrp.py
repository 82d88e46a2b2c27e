import pytest
import torch
from torch import nn
from torch.nn import functional

from ai.errors import UnsuitableLayerError
from ai.explainers.lrp import LRP, RULES
from ai.targets import ClassLogit
from tests.build_networks import Linear, classifier, image

X = torch.tensor([[[1.0, 2.0, -3.0]]])
LOGIT = ClassLogit(0)
#: Whose sum is not zero.
UNEVEN = torch.tensor([[[1.0, 2.0, -2.5]]])


class Of(nn.Module):
    """A network of one function of [B, 1, N], whose values are summed to one logit."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x).flatten(1).sum(dim=1, keepdim=True)


class Layers(nn.Module):
    """Dense layers with given weights and biases, and ReLUs between them, on a flat input."""

    def __init__(self, *layers):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(*reversed(weight.shape)) for weight, _ in layers)
        for layer, (weight, bias) in zip(self.layers, layers, strict=True):
            layer.weight = nn.Parameter(weight)
            layer.bias = nn.Parameter(bias)

    def forward(self, x):
        x = x.flatten(1)
        for layer in self.layers[:-1]:
            x = layer(x).relu()
        return self.layers[-1](x)


def relevance(network, x=X, target=LOGIT, **parameters):
    return LRP(**parameters).explain(network.eval(), x, target)


def conserving(found):
    return float(found.residual.max()) < 1e-6 and found.warnings == ()


@pytest.mark.parametrize("rule", ["cp", "attn", "epsilon"])
def test_a_linear_model_gets_w_times_x_and_its_bias_the_rest(rule):
    weight, x = image(2, 3, 6, 5, seed=1), image(2, 3, 6, 5, seed=2)

    found = relevance(Linear(weight, bias=4.0), x, ClassLogit(1), rule=rule, epsilon=0.0)

    assert torch.allclose(found.values, x * weight[1], atol=1e-5)
    assert torch.allclose(found.values.flatten(1).sum(1) + 4.0, found.f_x, atol=1e-4)
    assert conserving(found)


def test_gamma_favors_the_terms_of_the_output_s_own_sign():
    layer = (torch.tensor([[2.0, -0.5, 1.0]]), torch.tensor([1.0]))

    found = relevance(Layers(layer), rule="gamma", gamma=0.5)

    # Terms 2, -1, -3 and a bias of 1 make y = -1: the negative ones count one and a half times.
    terms = torch.tensor([[[2.0, -1.5, -4.5]]])
    assert torch.allclose(found.values, terms * (-1 / (2 - 1.5 - 4.5 + 1)), atol=1e-6)
    assert conserving(found)


def test_zplus_follows_positive_terms_alone():
    layer = (torch.tensor([[2.0, 1.5, -1.0]]), torch.tensor([-4.0]))

    found = relevance(Layers(layer), rule="zplus")

    # Terms 2, 3, 3 and a bias of -4 make y = 4.
    assert torch.allclose(found.values, torch.tensor([[[1.0, 1.5, 1.5]]]), atol=1e-6)
    assert conserving(found)


def test_epsilon_absorbs_a_share_and_counts_it():
    layer = (torch.tensor([[1.0, 1.0, 0.0]]), torch.tensor([0.0]))

    found = relevance(Layers(layer), rule="epsilon", epsilon=0.25)

    # y = 3, and epsilon a quarter of its root mean square.
    assert torch.allclose(found.values, torch.tensor([[[1.0, 2.0, 0.0]]]) / 1.25, atol=1e-6)
    assert conserving(found)


def test_two_layers_are_solved_on_paper():
    first = (torch.tensor([[1.0, 1.0, 0.0], [1.0, 0.0, 1.0]]), torch.zeros(2))
    second = (torch.tensor([[2.0, 5.0]]), torch.tensor([1.0]))

    found = relevance(Layers(first, second), rule="cp")

    # The second unit, 1 - 3, is silent behind its ReLU.
    assert found.f_x.tolist() == [7.0]
    assert torch.allclose(found.values, torch.tensor([[[2.0, 4.0, 0.0]]]))


def test_own_gradients_are_input_times_gradient_on_a_network_of_relus():
    network, x = classifier(channels=2), image(1, 2, 48, 40)
    leaf = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(network(leaf)[:, 1].sum(), leaf)

    found = relevance(network, x, ClassLogit(1), rule="cp")

    assert torch.allclose(found.values, x * gradient, atol=1e-6)


def test_an_activation_is_answered_by_its_secant():
    found = relevance(Of(functional.gelu))

    assert torch.allclose(found.values, functional.gelu(X), atol=1e-6)
    assert conserving(found)


def test_a_value_at_zero_is_a_constant_and_not_the_input_s():
    found = relevance(Of(functional.softplus))

    assert torch.allclose(found.values, functional.softplus(X) - torch.log(torch.tensor(2.0)))
    assert conserving(found)


def test_a_gate_weighs_and_carries_nothing():
    found = relevance(Of(lambda x: x * torch.sigmoid(2 * x)))

    assert torch.allclose(found.values, X * torch.sigmoid(2 * X), atol=1e-6)
    assert conserving(found)


def test_two_signals_share_their_product_evenly():
    found = relevance(Of(lambda x: x[..., :1] * x[..., 1:2]))

    assert torch.allclose(found.values, torch.tensor([[[1.0, 1.0, 0.0]]]))
    assert conserving(found)


def test_attention_weights_carry_only_by_the_rule_that_follows_them():
    network = Of(lambda x: x[..., :2].softmax(dim=-1) * x[..., 1:])

    along = relevance(network, rule="cp")
    through = relevance(network, rule="attn")

    # The third voxel is seen by the weights alone; the first is in them alone.
    assert along.values[0, 0, 0] == 0
    assert through.values[0, 0, 0] != 0
    assert conserving(along)
    assert conserving(through)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: functional.relu(x.mul(2), inplace=True),
        lambda x: functional.leaky_relu(x.mul(2), 0.1, True),
        lambda x: x.add(1).mul_(3).sub_(2),
        lambda x: x.clone().sigmoid_() * x,
        lambda x: torch.cat([x, torch.ones_like(x)]).amax(dim=0, keepdim=True),
        lambda x: torch.where(x > 0, x, 2.0),
        lambda x: x.masked_fill(x < 0, 7.0),
        lambda x: functional.layer_norm(x, (3,), torch.tensor([1.0, 2.0, 3.0]), torch.ones(3)),
        lambda x: functional.group_norm(x.mT.repeat(1, 2, 1), 2, torch.arange(6.0)),
        functional.instance_norm,
        lambda x: functional.batch_norm(x, None, None, training=True),
        lambda x: functional.normalize(x, dim=-1),
        lambda x: functional.max_pool1d(x, 2, stride=1),
        lambda x: functional.glu(x.repeat(1, 1, 2)),
        functional.hardtanh,
        lambda x: (5 - x) / 2 + 3 / (x + 9) + x / x.norm(),
        lambda x: x**3 + torch.exp(x) + x.pow(2).add(1).sqrt(),
        lambda x: torch.logsumexp(x, dim=-1) + functional.log_softmax(x, dim=-1).sum(),
        lambda x: torch.einsum("bcn,bcm->bnm", x, x),
        lambda x: functional.scaled_dot_product_attention(x, 2 * x, x),
        lambda x: functional.linear(x, x[0]),
    ],
)
@pytest.mark.parametrize("rule", ["gamma", "attn"])
def test_whatever_a_network_calls_conserves(function, rule):
    network = Of(function)

    found = relevance(network, UNEVEN, rule=rule)

    assert conserving(found)
    assert torch.allclose(found.f_x, network(UNEVEN)[:, 0], atol=1e-5)


@pytest.mark.parametrize("rule", RULES)
def test_torch_s_own_transformer_conserves(rule):
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, dim_feedforward=16, batch_first=True)
    network = nn.Sequential(nn.TransformerEncoder(layer, 2), nn.Flatten(), nn.Linear(40, 2))

    found = relevance(network, image(2, 5, 8), rule=rule)

    assert float(found.residual.max()) < 1e-5
    with torch.no_grad():
        assert torch.allclose(found.f_x, network(image(2, 5, 8))[:, 0], atol=1e-5)


def test_a_module_that_runs_twice_is_followed_twice():
    layer = nn.Conv1d(1, 1, 1)
    network = nn.Sequential(layer, nn.ReLU(), layer, nn.Flatten(), nn.Linear(3, 1))

    assert conserving(relevance(network, rule="cp"))


def test_a_function_without_a_rule_is_named_where_it_loses_relevance():
    found = relevance(Of(lambda x: torch.cumprod(x, dim=-1)))

    assert float(found.residual) > 0.1
    assert len(found.warnings) == 1
    assert "is not accounted for; there is no rule for cumprod" in found.warnings[0]


def test_a_target_behind_a_last_sigmoid_is_refused_with_what_to_do():
    with pytest.raises(UnsuitableLayerError, match="before the last sigmoid"):
        relevance(Of(torch.sigmoid))


def test_cells_keep_the_sum_and_flatten_what_is_inside():
    network, x = classifier(), image(1, 1, 50, 48)

    fine = relevance(network, x)
    coarse = relevance(network, x, cell=16)

    assert torch.allclose(fine.values.sum(), coarse.values.sum(), rtol=1e-4)
    assert (coarse.values[0, 0, :16, :16] == coarse.values[0, 0, 0, 0]).all()
    assert torch.allclose(coarse.values[0, 0, 0, 0], fine.values[0, 0, :16, :16].mean(), atol=1e-7)


class MemoryEfficientSwish(nn.Module):
    """As MONAI's: an autograd function, which no rule sees."""

    class Function(torch.autograd.Function):
        @staticmethod
        def forward(context, x):
            context.save_for_backward(x)
            return x * torch.sigmoid(x)

        @staticmethod
        def backward(context, gradient):
            (x,) = context.saved_tensors
            gate = torch.sigmoid(x)
            return gradient * (gate * (1 + x * (1 - gate)))

    def forward(self, x):
        return self.Function.apply(x)


def test_a_memory_efficient_swish_is_seen_through_and_left_in_the_network():
    network = nn.Sequential(MemoryEfficientSwish(), nn.Flatten(), nn.Linear(3, 1))

    assert conserving(relevance(network, rule="cp"))
    assert isinstance(network[0], MemoryEfficientSwish)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"rule": "gama"}, "expected one of gamma, epsilon"),
        ({"gamma": -1.0}, "gamma must not be negative"),
        ({"epsilon": float("nan")}, "epsilon must not be negative"),
        ({"cell": 0}, "cell must be at least 1"),
    ],
)
def test_parameters_that_mean_nothing_are_refused(parameters, message):
    with pytest.raises(ValueError, match=message):
        LRP(**parameters)
