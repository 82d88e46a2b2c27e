import pytest
import torch
from captum.attr import InputXGradient as CaptumInputXGradient
from torch import nn

from ai.explainers.input_x_gradient import InputXGradient
from ai.targets import ClassLogit, SegmentMass
from tests.build_networks import Linear, classifier, image, meshnet


class Product(nn.Module):
    """x1 x2."""

    def forward(self, x):
        return x.flatten(1).prod(1, keepdim=True)


def test_a_linear_model_gets_w_times_x():
    weight, x = image(2, 3, 6, 5, seed=1), image(2, 3, 6, 5, seed=2)

    found = InputXGradient().explain(Linear(weight).eval(), x, ClassLogit(1))

    assert torch.allclose(found.values, x * weight[1])
    assert found.residual.max() < 1e-5
    assert found.warnings == ()


def test_a_product_is_counted_once_for_each_factor_and_the_residual_says_so():
    found = InputXGradient().explain(Product().eval(), torch.tensor([[[3.0, -2.0]]]), ClassLogit(0))

    assert found.values.tolist() == [[[-6.0, -6.0]]]
    assert found.residual.item() == pytest.approx(1.0)
    assert "not accounted for" in found.warnings[0]


@pytest.mark.parametrize(("axes", "channels"), [(2, 3), (3, 1)])
def test_image_and_constants_hold_the_target_of_a_network_that_is_linear_in_pieces(axes, channels):
    network, x = classifier(axes=axes, channels=channels), image(2, channels, *[24] * axes)
    # Running statistics as after training, so that batch normalization shifts.
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d | nn.BatchNorm3d):
            layer.running_mean.normal_(generator=torch.Generator().manual_seed(1))
            layer.running_var.fill_(2.0)

    found = InputXGradient().explain(network, x, ClassLogit(1))

    missing = (found.values.flatten(1).sum(1) - found.f_x).abs() / found.f_x.abs()
    assert missing.min() > 0.1
    assert found.residual.max() <= 1e-4


def test_without_constants_the_values_sum_to_the_target():
    network, x = meshnet(), image(1, 1, 12, 12, 12)
    for layer in network:
        layer.bias = None if isinstance(layer, nn.Conv3d) else getattr(layer, "bias", None)
    mask = torch.ones(12, 12, 12, dtype=torch.bool)

    found = InputXGradient().explain(network, x, SegmentMass(2, mask))

    assert found.values.sum().item() == pytest.approx(found.f_x.item(), rel=1e-4)
    assert found.residual.item() <= 1e-4


def test_a_batch_norm_without_weights_shows_in_the_residual():
    network = nn.Sequential(
        nn.BatchNorm2d(1, affine=False), nn.Flatten(), nn.Linear(16, 2, bias=False)
    )
    network[0].running_mean.fill_(3.0)
    network.eval()

    found = InputXGradient().explain(network, image(1, 1, 4, 4), ClassLogit(0))

    assert found.residual.item() > 0.1


def test_it_is_told_when_constants_hold_most_of_the_result():
    weight, x = torch.ones(1, 1, 2, 2), torch.full((1, 1, 2, 2), 0.25)

    found = InputXGradient().explain(Linear(weight).eval(), x, ClassLogit(0))
    with_bias = InputXGradient().explain(
        nn.Sequential(nn.Flatten(), affine(weight.flatten(1), bias=3.0)).eval(), x, ClassLogit(0)
    )

    assert found.warnings == ()
    assert with_bias.residual.item() < 1e-6
    assert with_bias.warnings == ("constants of the network hold 75% of the result, no voxel does",)


def affine(weight, bias):
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    layer.weight.data.copy_(weight)
    layer.bias.data.fill_(bias)
    return layer


def test_it_is_that_of_captum():
    network, x = classifier(), image(2, 1, 48, 48)

    ours = InputXGradient().explain(network, x, ClassLogit(2)).values

    captum = CaptumInputXGradient(network).attribute(x.clone().requires_grad_(), target=2)
    assert (ours - captum).abs().max() <= 1e-6 * captum.abs().max()


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
def test_the_constants_of_torchscript_are_not_asked():
    x = image(1, 1, 48, 48)
    network = torch.jit.trace(classifier(), x)

    found = InputXGradient().explain(network, x, ClassLogit(1))

    assert found.residual is None
    assert found.warnings == ()
    assert all(parameter.requires_grad for parameter in network.parameters())
