import pytest
import torch
from captum.attr import Saliency as CaptumSaliency
from torch import nn

from ai.errors import ExplanationCancelledError, UndifferentiableError
from ai.explainers.saliency import Saliency
from ai.model import Budget, Settings
from ai.targets import ClassLogit
from tests.build_networks import Linear, classifier, image


class Product(nn.Module):
    """x1 x2."""

    def forward(self, x):
        return x.flatten(1).prod(1, keepdim=True)


class Rounded(nn.Module):
    """A network that counts voxels: its output is a step function."""

    def forward(self, x):
        return (x > 0).flatten(1).float().sum(1, keepdim=True)


@pytest.mark.parametrize("absolute", [True, False])
def test_a_linear_model_gets_its_weights(absolute):
    weight, x = image(2, 3, 6, 5, seed=1), image(2, 3, 6, 5, seed=2)

    found = Saliency(absolute=absolute).explain(Linear(weight, bias=4.0).eval(), x, ClassLogit(1))

    expected = weight[1].abs() if absolute else weight[1]
    assert torch.allclose(found.values, expected.expand_as(x))
    assert found.residual is None


def test_each_factor_of_a_product_gets_the_other():
    found = Saliency(absolute=False).explain(
        Product().eval(), torch.tensor([[[3.0, -2.0]]]), ClassLogit(0)
    )

    assert found.values.tolist() == [[[-2.0, 3.0]]]


@pytest.mark.parametrize("absolute", [True, False])
@pytest.mark.parametrize("axes", [2, 3])
def test_it_is_that_of_captum(axes, absolute):
    network, x = classifier(axes=axes), image(2, 1, *[24] * axes)

    ours = Saliency(absolute=absolute).explain(network, x, ClassLogit(2)).values

    captum = CaptumSaliency(network).attribute(x.clone().requires_grad_(), target=2, abs=absolute)
    assert (ours - captum).abs().max() <= 1e-6 * captum.abs().max()


def test_memory_decides_the_batch_and_not_the_answer():
    network, x, batches = classifier(), image(5, 1, 48, 48), []
    network.register_forward_hook(lambda _m, inputs, _o: batches.append(inputs[0].shape))

    roomy = Saliency().explain(network, x, ClassLogit(1))
    together = batches[-1][0]
    tight = Saliency(memory_bytes=1).explain(network, x, ClassLogit(1))

    assert (together, batches[-1][0]) == (5, 1)
    assert torch.allclose(roomy.values, tight.values, atol=1e-6)
    assert roomy.cost.forwards == tight.cost.backwards == 5


def test_half_a_batch_is_no_answer():
    spent = []
    settings = Settings(
        budget=Budget(report=lambda done, _: spent.append(done), cancelled=lambda: len(spent) == 1)
    )

    with pytest.raises(ExplanationCancelledError, match="before the gradient was there"):
        Saliency(memory_bytes=1).explain(classifier(), image(2, 1, 48, 48), ClassLogit(1), settings)

    assert spent == [1]


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
@pytest.mark.parametrize("scripted", [False, True])
def test_a_step_function_has_no_gradient_and_says_so(scripted):
    x = image(1, 1, 8, 8)
    network = torch.jit.trace(Rounded(), x).eval() if scripted else Rounded().eval()

    with pytest.raises(UndifferentiableError, match="no gradient at the input"):
        Saliency().explain(network, x, ClassLogit(0))


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
def test_weights_behind_a_step_function_do_not_pass_for_a_gradient():
    x = image(1, 1, 8, 8)
    network = torch.jit.trace(nn.Sequential(Rounded(), nn.Linear(1, 2)), x).eval()

    with pytest.raises(UndifferentiableError, match="no gradient at the input"):
        Saliency().explain(network, x, ClassLogit(0))
