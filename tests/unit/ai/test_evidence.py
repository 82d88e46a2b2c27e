import pytest
import torch
from monai.networks import nets
from torch import nn

from ai.errors import TargetError, UnknownLayerError, UnsuitableLayerError
from ai.explainers.cam import CAM
from ai.hybrids.additive import spread, summed
from ai.hybrids.backbones import FeatureMap, trunk
from ai.hybrids.evidence import EvidenceHead, evidence_network
from ai.hybrids.explainer import Evidence
from ai.targets import ClassLogit, SegmentMass
from tests.build_networks import classifier, evident, image


def head(weights, *, sharpness=0.0, prior=0.0):
    """A head for planes that reads channels by ``weights``, [classes][channels]."""
    made = EvidenceHead(
        len(weights[0]), len(weights), spatial_dims=2, sharpness=sharpness, prior=prior
    )
    made.reader.weight.data.copy_(torch.tensor(weights)[:, :, None, None])
    return made.eval()


def densenet():
    return nets.DenseNet121(spatial_dims=2, in_channels=1, out_channels=2)


def resnet(axes, make=nets.resnet18):
    return make(spatial_dims=axes, n_input_channels=1, num_classes=2)


def seresnet():
    return nets.SEResNet50(spatial_dims=2, in_channels=1, num_classes=2)


def efficientnet_features():
    return nets.EfficientNetBNFeatures("efficientnet-b0", pretrained=False, in_channels=1)


PLANE, SOLID = (1, 1, 64, 64), (1, 1, 32, 32, 32)
#: Makes a backbone for an image of the shape beside it.
BACKBONES = {
    "ResNet": (lambda x: trunk(resnet(2), "layer3", x), PLANE),
    "ResNet-3D": (lambda x: trunk(resnet(3, nets.resnet10), "layer2", x), SOLID),
    "ResNetFeatures": (lambda _: FeatureMap(nets.ResNetFeatures("resnet10", False), 2), SOLID),
    "DenseNet": (lambda _: densenet().features, PLANE),
    "DenseNet-cut": (lambda x: trunk(densenet(), "features.denseblock2", x), PLANE),
    "SEResNet": (lambda x: trunk(seresnet(), "layer2", x), PLANE),
    "EfficientNet": (lambda _: FeatureMap(efficientnet_features(), 3), PLANE),
    "UNet": (lambda _: nets.UNet(3, 1, 6, channels=(4, 8), strides=(2,)), SOLID),
    "SwinTransformer": (
        lambda _: FeatureMap(nets.SwinUNETR(1, 2, feature_size=12, spatial_dims=2).swinViT, 2),
        PLANE,
    ),
}


def test_the_logit_is_the_mean_vote_on_top_of_the_prior():
    features = torch.tensor([[[[1.0, 2.0], [3.0, 6.0]], [[0.0, 4.0], [0.0, 0.0]]]])

    logits = head([[1.0, 0.0], [1.0, -2.0]], prior=-0.5)(features)

    assert logits.tolist() == [[2.5, 0.5]]


def test_a_sharp_head_listens_to_the_strongest_place():
    features = torch.tensor([[[[0.0, 1.0], [0.0, 0.0]]]])

    soft, sharp, sharper = (
        head([[1.0]], sharpness=sharpness)(features).item() for sharpness in (0.0, 3.0, 100.0)
    )

    assert soft == 0.25
    assert sharp == pytest.approx(torch.e**3 / (torch.e**3 + 3))
    assert sharper == pytest.approx(1.0)


def test_an_image_without_features_has_the_prior():
    made = head([[2.0], [-1.0]], sharpness=2.0, prior=-1.5)

    assert made(torch.zeros(1, 1, 4, 4)).tolist() == [[-1.5, -1.5]]


def test_places_give_all_they_have_to_the_voxels_around_them():
    fine = spread(torch.tensor([[4.0, 0.0, 8.0]]), (6,))

    # By linear interpolation, each place's weights scaled to 1: 1, 3/4, 1/4 of 2 at the border,
    # and 1/4, 3/4, 3/4, 1/4 of 2 inside.
    assert fine[0].tolist() == pytest.approx([2.0, 1.5, 0.5, 1.0, 3.0, 4.0])


@pytest.mark.parametrize("extents", [(13, 9), (5, 4), (5, 7), (40, 31), (3, 2)])
def test_spreading_keeps_the_sum_on_any_grid(extents):
    terms = image(3, 5, 4)

    fine = spread(terms, extents)

    assert fine.shape == (3, *extents)
    assert torch.allclose(fine.flatten(1).sum(1), terms.double().flatten(1).sum(1))


def test_a_sum_of_many_terms_of_both_signs_is_exact():
    terms = image(1, 1, 64, 64, 64)
    terms = torch.cat((terms, -terms, torch.full((1, 1, 64, 64, 64), 1e-9)), dim=2)

    assert summed(terms, torch.zeros(1)).item() == pytest.approx(64**3 * 1e-9, rel=1e-4)


def test_the_map_is_the_votes_where_they_were_cast():
    network = nn.Sequential(nn.AvgPool2d(4), head([[2.0], [1.0]], prior=0.3)).eval()
    x = torch.zeros(1, 1, 16, 16)
    x[..., 8:12, 4:8] = 1.0

    found = Evidence().explain(network, x, ClassLogit(0))

    assert found.f_x.item() == pytest.approx(0.3 + 2 / 16)
    assert found.f_baseline.item() == pytest.approx(0.3)
    assert found.values.sum().item() == pytest.approx(2 / 16)
    assert found.values[..., 6:14, 2:10].sum().item() == pytest.approx(2 / 16)
    # Linear interpolation leaves (7/8 + 5/8) / 2 of a cell inside it, along either axis.
    assert found.values[..., 8:12, 4:8].sum().item() == pytest.approx(2 / 16 * 0.75**2)
    assert (found.layer, found.baseline) == ("1", "no evidence")
    assert found.warnings == ()


@pytest.mark.parametrize("sharpness", [0.0, 1.0, 8.0])
@pytest.mark.parametrize(("axes", "extent"), [(2, 50), (3, 30)])
def test_values_are_complete_by_construction(axes, extent, sharpness):
    network = evident(axes=axes, channels=2, sharpness=sharpness)

    found = Evidence().explain(network, image(2, 2, *[extent] * axes), ClassLogit(1))

    assert found.residual.max() <= 1e-5
    assert found.values.abs().sum() > 0


def test_why_one_class_and_not_another_is_the_difference_of_their_votes():
    network, x = evident(), image(1, 1, 48, 48)

    one, other, margin = (
        Evidence().explain(network, x, target)
        for target in (ClassLogit(0), ClassLogit(2), lambda output, _: output[:, 0] - output[:, 2])
    )

    assert torch.allclose(margin.values, one.values - other.values, atol=1e-8)
    assert margin.residual.item() <= 1e-5


def test_a_target_that_is_no_weighted_sum_of_logits_says_so():
    found = Evidence().explain(
        evident(), 5 * image(1, 1, 48, 48), lambda output, _: (9 * output[:, 0]).exp()
    )

    assert found.residual.item() > 1e-3
    assert "not accounted for" in found.warnings[0]


def test_a_pooled_classifier_is_an_evidence_head_with_a_mean_already():
    network, x = classifier(), image(2, 1, 48, 48)
    same = nn.Sequential(*list(network)[:-3], head(network[-1].weight.tolist())).eval()
    same[-1].prior.data.copy_(network[-1].bias)

    with torch.no_grad():
        assert torch.allclose(same(x), network(x), atol=1e-6)
    found = Evidence().explain(same, x, ClassLogit(1)).values
    cam = CAM(signed=True).explain(network, x, ClassLogit(1)).values
    middle = (slice(None), slice(None), slice(4, -4), slice(4, -4))
    assert torch.allclose(found[middle] * 48 * 48, cam[middle], atol=1e-5)


def test_gradients_reach_the_backbone_and_the_prior():
    network = evident(sharpness=1.0).train()

    torch.autograd.backward(network(image(4, 1, 48, 48)).square().sum())

    assert all(parameter.grad.abs().sum() > 0 for parameter in network[-1].parameters())
    assert network[0].weight.grad.abs().sum() > 0


@pytest.mark.parametrize(("make", "shape"), BACKBONES.values(), ids=BACKBONES)
def test_backbones_of_monai_get_a_head_that_fits(make, shape):
    torch.manual_seed(0)
    x = image(*shape)
    backbone = make(x)
    statistics = [buffer.clone() for buffer in backbone.buffers()]

    network = evidence_network(backbone, x, classes=2, sharpness=1.0).eval()
    found = Evidence().explain(network, x, ClassLogit(1))

    assert found.values.shape == x.shape
    assert found.residual.max() <= 1e-5
    for before, after in zip(statistics, backbone.buffers(), strict=True):
        assert torch.equal(before, after)


def test_a_trunk_is_the_network_up_to_its_layer_on_the_same_weights():
    torch.manual_seed(0)
    network, x = resnet(2), image(2, 1, 64, 64)

    part = trunk(network, "layer2", x)

    assert network.training
    assert part.conv1.weight is network.conv1.weight
    assert list(dict(part.named_children())) == [
        "conv1",
        "bn1",
        "act",
        "maxpool",
        "layer1",
        "layer2",
    ]


@pytest.mark.parametrize(
    ("make", "layer"),
    [
        (lambda: nets.resnet18(spatial_dims=2, n_input_channels=1, no_max_pool=True), "layer1"),
        (lambda: nets.EfficientNetBN("efficientnet-b0", False, in_channels=1), "_bn0"),
        (lambda: nets.SegResNet(spatial_dims=2, init_filters=8), "down_layers.1"),
    ],
    ids=["pooling-left-out", "other-order", "functions-between"],
)
def test_a_network_that_does_not_run_in_order_has_no_trunk(make, layer):
    with pytest.raises(UnsuitableLayerError, match="does not call its layers one after the other"):
        trunk(make(), layer, image(1, 1, 64, 64))


def test_a_trunk_ends_at_a_layer_that_exists():
    with pytest.raises(UnknownLayerError, match=r"no layer 'layer5', it has conv1, bn1, "):
        trunk(resnet(2, nets.resnet10), "layer5", image(1, 1, 32, 32))


def test_a_backbone_without_a_map_is_refused():
    x = image(1, 1, 48, 48)
    with pytest.raises(UnsuitableLayerError, match=r"returns \(1, 3\) of an image"):
        evidence_network(classifier(), x, classes=2)
    with pytest.raises(UnsuitableLayerError, match="returns list of an image"):
        evidence_network(nets.ResNetFeatures("resnet10", False, 2), x, classes=2)


def test_a_network_without_such_a_head_is_refused():
    with pytest.raises(UnsuitableLayerError, match="ends in an evidence head or in gated"):
        Evidence().explain(classifier(), image(1, 1, 48, 48), ClassLogit(0))


def test_a_head_that_does_not_have_the_last_word_is_refused():
    network = nn.Sequential(*evident(), nn.Softmax(dim=1)).eval()

    with pytest.raises(UnsuitableLayerError, match="its map is not the decision"):
        Evidence().explain(network, image(1, 1, 48, 48), ClassLogit(0))


def test_targets_that_mean_nothing_to_it_are_refused():
    x = image(1, 1, 48, 48)

    with pytest.raises(TargetError, match="does not fit an output"):
        Evidence().explain(evident(), x, SegmentMass(0, torch.ones(4, 4, dtype=torch.bool)))
    with pytest.raises(TargetError, match="does not depend on the network's output"):
        Evidence().explain(evident(), x, lambda output, x: x.flatten(1).sum(1))
