import pytest
import torch
from monai.networks import nets
from torch import nn

from ai.hybrids.backbones import trunk
from ai.hybrids.explainer import Evidence
from ai.hybrids.mil import BagNetwork, GatedAttentionHead, bag_network
from ai.model import Budget, Settings
from ai.targets import ClassLogit
from tests.build_networks import classifier, image


def bags(*, channels=1, classes=2):
    """A network for bags of planes, whose attention is not even."""
    backbone = nn.Sequential(*list(classifier(channels=channels))[:-3])
    network = bag_network(
        backbone, image(1, 2, channels, 32, 32), classes=classes, hidden=5, prior=-0.3
    )
    nn.init.normal_(network.head.score.weight, std=3.0)
    nn.init.normal_(network.head.content.weight)
    return network.eval()


def test_attention_is_that_of_the_paper():
    torch.manual_seed(0)
    head, features = GatedAttentionHead(4, 1, hidden=3), image(2, 5, 4)

    attention = head.attention(features)

    for bag in range(2):
        scores = torch.stack(
            [
                head.score.weight[0]
                @ (
                    torch.tanh(head.content.weight @ h + head.content.bias)
                    * torch.sigmoid(head.gate.weight @ h + head.gate.bias)
                )
                for h in features[bag]
            ]
        )
        assert torch.allclose(attention[bag], scores.exp() / scores.exp().sum())


def test_the_logit_is_read_from_the_mean_weighed_by_attention():
    torch.manual_seed(0)
    head, features = GatedAttentionHead(4, 3, prior=0.7), image(2, 5, 4)

    with torch.no_grad():
        pooled = torch.einsum("bn,bnk->bk", head.attention(features), features)
        expected = pooled @ head.reader.weight.T + 0.7
        assert torch.allclose(head(features), expected, atol=1e-6)


def test_an_instance_that_is_alone_is_the_decision():
    network, x = bags(), image(2, 1, 1, 32, 32)

    with torch.no_grad():
        maps = network.backbone(x[:, 0])
        expected = maps.flatten(2).mean(2) @ network.head.reader.weight.T - 0.3
        assert torch.allclose(network(x), expected, atol=1e-6)


def test_the_order_of_the_instances_does_not_matter():
    network, x = bags(), image(1, 4, 1, 32, 32)
    order = [2, 0, 3, 1]

    found = Evidence().explain(network, x, ClassLogit(0))
    other = Evidence().explain(network, x[:, order], ClassLogit(0))

    assert torch.allclose(other.f_x, found.f_x, atol=1e-6)
    assert torch.allclose(other.values, found.values[:, order], atol=1e-7)


@pytest.mark.parametrize("channels", [1, 3])
def test_values_of_a_bag_are_complete_for_each_instance_and_place(channels):
    network, x = bags(channels=channels), image(2, 4, channels, 32, 32)

    found = Evidence().explain(network, x, ClassLogit(1))

    assert found.values.shape == x.shape
    assert found.values.dtype == torch.float32
    assert found.residual.max() <= 1e-5
    assert found.f_baseline.tolist() == pytest.approx([-0.3, -0.3])
    with torch.no_grad():
        maps = network.backbone(x.flatten(0, 1)).reshape(2, 4, 8, 4, 4)
        terms = network.head.contributions(maps)[:, 1].flatten(2).sum(2).float()
    assert torch.allclose(found.values.flatten(2).sum(2), terms, atol=1e-5)


def test_features_without_places_are_spread_evenly_over_their_instance():
    backbone = nn.Sequential(nn.Flatten(), nn.Linear(64, 6), nn.ReLU())
    network = BagNetwork(backbone, GatedAttentionHead(6, 2)).eval()

    found = Evidence().explain(network, image(1, 3, 1, 8, 8), ClassLogit(0))

    assert found.residual.max() <= 1e-5
    each = found.values.flatten(2)
    assert torch.equal(each, each[:, :, :1].expand_as(each))
    assert each[0, :, 0].unique().numel() == 3


def test_a_bag_of_volumes_is_a_bag_too():
    resnet = nets.resnet10(spatial_dims=3, n_input_channels=1, num_classes=2)
    x = image(1, 2, 1, 16, 16, 16)
    network = bag_network(trunk(resnet, "layer1", x[0]), x, classes=2).eval()

    found = Evidence().explain(network, x, ClassLogit(1))

    assert found.values.shape == x.shape
    assert found.residual.max() <= 1e-5


def test_gradients_reach_all_of_it():
    network = bags().train()

    torch.autograd.backward(network(image(2, 4, 1, 32, 32)).square().sum())

    for name, parameter in network.named_parameters():
        assert parameter.grad.abs().sum() > 0, name


def test_one_pass_is_all_it_takes():
    heard = []
    settings = Settings(budget=Budget(forwards=1, report=lambda *spent: heard.append(spent)))

    found = Evidence().explain(bags(), image(1, 4, 1, 32, 32), ClassLogit(0), settings)

    assert heard == [(1, 1)]
    assert (found.cost.forwards, found.cost.backwards) == (1.0, 0.0)
