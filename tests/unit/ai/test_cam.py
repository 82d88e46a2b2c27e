"""The CAMs against their formulas on paper, and against captum and MONAI on real networks."""

import pytest
import torch
from captum.attr import LayerGradCam
from monai.data import MetaTensor
from monai.networks import nets
from monai.visualize import GradCAM as MonaiGradCAM
from torch import nn
from torch.nn import functional

from ai.capture import private_copy
from ai.errors import UnknownLayerError, UnsuitableLayerError
from ai.explainers.cam import (
    EigenCAM,
    GradCAM,
    GradCAMPlusPlus,
    HiResCAM,
    LayerCAM,
    XGradCAM,
    explain_all,
)
from ai.explainers.cam_pass import Plan, Watched, fused
from ai.model import Settings
from ai.targets import ClassLogit, SegmentMass
from tests.build_networks import LinearAfterIdentity, classifier, image, meshnet

ALL = (GradCAM(), GradCAMPlusPlus(), HiResCAM(), LayerCAM(), XGradCAM(), EigenCAM())

#: One entry, two channels, two by two.
ACTIVATION = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]], [[4.0, 0.0], [0.0, 0.0]]]])
GRADIENT = torch.tensor([[[[1.0, 0.0], [-1.0, 2.0]], [[-2.0, 4.0], [0.0, 0.0]]]])


def real_networks():
    one = {"spatial_dims": 2, "n_input_channels": 1, "num_classes": 3}
    return {
        "DenseNet121": (
            lambda: nets.DenseNet121(spatial_dims=2, in_channels=1, out_channels=3),
            "class_layers.relu",
            (64, 64),
        ),
        "ResNet18": (lambda: nets.resnet18(**one), "layer4", (48, 56)),
        "ResNet18 3D": (
            lambda: nets.resnet18(**{**one, "spatial_dims": 3}),
            "layer3",
            (24, 32, 24),
        ),
        "EfficientNet-B0": (
            lambda: nets.EfficientNetBN(
                "efficientnet-b0", pretrained=False, in_channels=1, num_classes=3
            ),
            "_bn1",
            (64, 64),
        ),
        "SEResNet50": (
            lambda: nets.SEResNet50(spatial_dims=2, in_channels=1, num_classes=3),
            "layer3",
            (64, 64),
        ),
    }


@pytest.fixture(params=real_networks())
def real(request):
    make, layer, extents = real_networks()[request.param]
    torch.manual_seed(3)
    return make().eval(), layer, image(1, 1, *extents, seed=3)


@pytest.mark.filterwarnings("ignore:Setting backward hooks on ReLU:UserWarning")
def test_grad_cam_equals_captum_and_monai_on_real_networks(real):
    network, layer, x = real
    channel = max(range(3), key=lambda k: grad_cam(network, x, k, layer).max())

    ours = grad_cam(network, x, channel, layer)

    module = network.get_submodule(layer)
    captum = LayerGradCam(network, module).attribute(x, channel, relu_attributions=True)
    mode = "bilinear" if x.ndim == 4 else "trilinear"
    captum = functional.interpolate(captum.detach(), x.shape[2:], mode=mode)
    monai = MonaiGradCAM(network, layer, postprocessing=lambda raw: raw)(x, class_idx=channel)
    size = ours.max()
    assert size > 0
    assert (ours - captum).abs().max() <= 1e-5 * size
    assert (ours - monai).abs().max() <= 1e-5 * size


def grad_cam(network, x, channel, layer):
    settings = Settings(layers=(layer,))
    return GradCAM().explain(network, x, ClassLogit(channel), settings).values


@pytest.mark.parametrize(
    ("variant", "expected"),
    [
        # Weights are the mean gradients, 0.5 and 0.5.
        (GradCAM(), [[2.5, 1.0], [1.5, 2.0]]),
        # S is 10 and 4: 1/(2+10) + 2/(2+20) and 4/(2+16) are the weights.
        (
            GradCAMPlusPlus(),
            [
                [1 / 12 + 2 / 22 + 4 * 4 / 18, 2 * (1 / 12 + 2 / 22)],
                [3 * (1 / 12 + 2 / 22), 4 * (1 / 12 + 2 / 22)],
            ],
        ),
        (HiResCAM(), [[-7.0, 0.0], [-3.0, 8.0]]),
        (LayerCAM(), [[1.0, 0.0], [0.0, 8.0]]),
        # Weights are (1 - 3 + 8) / 10 and -8 / 4.
        (XGradCAM(), [[-7.4, 1.2], [1.8, 2.4]]),
    ],
    ids=lambda each: getattr(each, "name", ""),
)
def test_each_variant_is_its_formula(variant, expected):
    assert variant.combine(ACTIVATION, GRADIENT)[0].tolist() == [
        pytest.approx(row, abs=1e-6) for row in expected
    ]


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (2, 30, 2, 2)], ids=["few", "many channels"])
def test_eigen_cam_is_the_first_singular_direction_turned_to_the_positive(shape):
    activation = image(*shape, seed=5)

    found = EigenCAM().combine(activation, torch.zeros_like(activation))

    for entry in range(2):
        _u, s, v = torch.linalg.svd(activation[entry].flatten(1), full_matrices=False)
        expected = (s[0] * v[0]).reshape(shape[2:])
        expected = expected if expected.sum() >= 0 else -expected
        assert torch.allclose(found[entry], expected, atol=1e-4)


def test_grad_cam_pp_keeps_its_shape_however_small_the_gradients():
    small = GradCAMPlusPlus().combine(ACTIVATION * 1e8, GRADIENT * 1e-8) / 1e8

    assert torch.allclose(small * 1e8, GradCAMPlusPlus().combine(ACTIVATION, GRADIENT))


def test_x_grad_cam_gives_silent_channels_no_weight():
    silent = torch.zeros_like(ACTIVATION)

    assert not XGradCAM().combine(silent, GRADIENT).any()


def test_signed_hires_cam_of_a_linear_model_is_w_times_x():
    weight, x = image(2, 3, 6, 5, seed=1), image(2, 3, 6, 5, seed=2)
    network = LinearAfterIdentity(weight).eval()

    attribution = HiResCAM(signed=True, layers=("seen",)).explain(network, x, ClassLogit(1))

    assert torch.allclose(attribution.values[:, 0], (x * weight[1]).sum(1), atol=1e-6)
    assert torch.allclose(attribution.values.sum((1, 2, 3)), attribution.f_x, atol=1e-5)


def test_unsigned_maps_keep_the_positive_part_only():
    network, x = classifier(), image(1, 1, 48, 48)
    layers = Settings(layers=("4",))

    signed = HiResCAM(signed=True).explain(network, x, ClassLogit(0), layers).values
    unsigned = HiResCAM().explain(network, x, ClassLogit(0), layers).values

    assert signed.min() < 0
    assert unsigned.min() >= 0


def test_all_variants_in_one_pass_equal_each_alone():
    network, x = classifier(), image(2, 1, 64, 64)

    together = explain_all(network, x, ClassLogit(1), ALL)

    for variant in ALL:
        alone = variant.explain(network, x, ClassLogit(1))
        assert torch.allclose(together[variant.name].values, alone.values, atol=1e-7)
        assert together[variant.name].layer == alone.layer
    assert sum(each.cost.backwards for each in together.values()) == pytest.approx(1.0)


def run_at(network, x, layers):
    return Watched(private_copy(network), x, Plan(layers=(layers,))).run(x)


def test_one_pass_serves_several_layers():
    network, x = classifier(), image(1, 1, 64, 64)

    together = run_at(network, x, ("5", "8"))
    _f_x, both = together.towards(ClassLogit(0), ("5", "8"), keep_graph=False)

    for layer in ("5", "8"):
        _f_x, alone = run_at(network, x, (layer,)).towards(
            ClassLogit(0), (layer,), keep_graph=False
        )
        assert torch.equal(both[layer].activation, alone[layer].activation)
        assert torch.allclose(both[layer].gradient, alone[layer].gradient, atol=1e-8)
    assert torch.equal(together.output_tensor, network(x))


def test_layers_are_fused_by_their_shares_in_the_size_of_the_last():
    coarse, fine = torch.tensor([[[0.0, 8.0]]]), torch.tensor([[[4.0, 2.0, 0.0, 0.0]]])

    values = fused([fine, coarse], extents=(1, 4), signed=False)

    # Shares: 1, .5, 0, 0 and 0, .25, .75, 1 (linear, half-cell centers); the mean times 8.
    assert values.tolist() == [[[[4.0, 3.0, 3.0, 4.0]]]]


def test_a_layer_without_any_relevance_does_not_spoil_the_fusion():
    silent, fine = torch.zeros(1, 1, 2), torch.tensor([[[4.0, 2.0, 0.0, 0.0]]])

    values = fused([silent, fine], extents=(1, 4), signed=False)

    assert values.tolist() == [[[[2.0, 1.0, 0.0, 0.0]]]]


def test_a_layer_name_with_a_slip_is_answered_with_the_nearest():
    network = nets.resnet18(spatial_dims=2, n_input_channels=1, num_classes=3).eval()

    with pytest.raises(UnknownLayerError, match="no layer 'layer5'; nearest: layer"):
        LayerCAM(layers=("layer5",)).explain(network, image(1, 1, 32, 32), ClassLogit(0))


@pytest.mark.parametrize(
    ("layer", "message"), [("10", r"which is no feature map"), ("6.never", "did not run")]
)
def test_a_layer_without_a_map_is_refused(layer, message):
    network = classifier()
    network[6].never = nn.ReLU().eval()

    with pytest.raises(UnsuitableLayerError, match=message):
        GradCAM(layers=(layer,)).explain(network, image(1, 1, 32, 32), ClassLogit(0))


def test_a_target_that_does_not_depend_on_the_layer_is_refused():
    with pytest.raises(UnsuitableLayerError, match="does not depend on 5"):
        GradCAM(layers=("5",)).explain(
            classifier(), image(1, 1, 32, 32), lambda output, x: x.flatten(1).sum(1)
        )


def test_a_network_without_a_feature_map_is_refused():
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 2)).eval()

    with pytest.raises(UnsuitableLayerError, match=r"no module .* 2 spatial axes"):
        LayerCAM().explain(network, image(1, 1, 8, 8), ClassLogit(0))


def test_a_network_without_strides_is_explained_in_its_middle_or_where_asked():
    network, x = meshnet(), image(1, 1, 12, 12, 12)
    target = SegmentMass(1, torch.ones(12, 12, 12, dtype=torch.bool))

    middle = LayerCAM().explain(network, x, target)
    late = LayerCAM(depth=0.75).explain(network, x, target)

    assert middle.layer == "5"
    assert late.layer == "7"
    assert late.cost.peak_bytes < middle.cost.peak_bytes


def test_an_image_that_carries_metadata_is_an_image():
    network, x = classifier(), image(1, 1, 48, 48)

    values = LayerCAM().explain(network, MetaTensor(x), ClassLogit(0)).values

    assert type(values) is torch.Tensor
    assert torch.equal(values, LayerCAM().explain(network, x, ClassLogit(0)).values)


def test_the_memory_format_of_the_network_is_kept():
    strides = []

    class Watching(nn.Module):
        def forward(self, x):
            strides.append(x.stride())
            return x

    network = meshnet()
    network.insert(6, Watching().eval())
    network.to(memory_format=torch.channels_last_3d)
    x = image(1, 1, 12, 12, 12).to(memory_format=torch.channels_last_3d)
    with torch.no_grad():
        network(x)
    target = SegmentMass(1, torch.ones(12, 12, 12, dtype=torch.bool))

    LayerCAM(layers=("4",)).explain(network, x, target)

    assert strides[0] == strides[1]
