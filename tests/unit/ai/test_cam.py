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
    CAM,
    NOTHING_FOR_IT,
    EigenCAM,
    GradCAM,
    GradCAMPlusPlus,
    HiResCAM,
    LayerCAM,
    XGradCAM,
    explain_all,
)
from ai.explainers.cam_pass import Plan, Watched, enlarged, fused
from ai.model import Settings
from ai.session import ExplainSession
from ai.targets import ClassLogit, SegmentMass
from benchmarks.networks import MATRIX
from tests.build_networks import LinearAfterIdentity, classifier, image, meshnet, transformer

ALL = (CAM(), GradCAM(), GradCAMPlusPlus(), HiResCAM(), LayerCAM(), XGradCAM(), EigenCAM())

#: One entry, two channels, two by two.
ACTIVATION = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]], [[4.0, 0.0], [0.0, 0.0]]]])
GRADIENT = torch.tensor([[[[1.0, 0.0], [-1.0, 2.0]], [[-2.0, 4.0], [0.0, 0.0]]]])


#: The classifiers of the matrix that have feature maps, and their last layer: as it is called where
#: it runs once, as MONAI wants it.
REAL = {
    "DenseNet121": "class_layers.relu",
    "ResNet18": "layer4",
    "ResNet50": "layer4",
    "ResNet18-3D": "layer4",
    "EfficientNet-B0": "_bn1",
    "SEResNet50": "layer4",
}


@pytest.fixture(params=REAL)
def real(request):
    specimen = MATRIX[request.param]
    torch.manual_seed(3)
    network = specimen.make(specimen.small).eval()
    return network, REAL[request.param], image(1, 1, *specimen.small, seed=3)


@pytest.mark.filterwarnings("ignore:Setting backward hooks on ReLU:UserWarning")
def test_grad_cam_equals_captum_and_monai_on_real_networks(real):
    network, layer, x = real
    session = ExplainSession(network, x, layers=(layer,))

    maps = [session.cams(ClassLogit(channel), (GradCAM(),))[0].values for channel in range(3)]

    channel = max(range(3), key=lambda each: maps[each].max())
    ours = maps[channel]
    module = network.get_submodule(layer)
    captum = LayerGradCam(network, module).attribute(x, channel, relu_attributions=True)
    mode = "bilinear" if x.ndim == 4 else "trilinear"
    captum = functional.interpolate(captum.detach(), x.shape[2:], mode=mode)
    monai = MonaiGradCAM(network, layer, postprocessing=lambda raw: raw)(x, class_idx=channel)
    size = ours.max()
    assert size > 0
    assert (ours - captum).abs().max() <= 1e-5 * size
    assert (ours - monai).abs().max() <= 1e-5 * size


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
        # All four places are read: each product counts four times.
        (CAM(), [[-28.0, 0.0], [-12.0, 32.0]]),
        # Weights are (1 - 3 + 8) / 10 and -8 / 4.
        (XGradCAM(), [[-7.4, 1.2], [1.8, 2.4]]),
    ],
    ids=lambda each: getattr(each, "name", ""),
)
def test_each_variant_is_its_formula(variant, expected):
    assert variant.combine(ACTIVATION, GRADIENT)[0].tolist() == [
        pytest.approx(row, abs=1e-6) for row in expected
    ]


def test_layer_cam_sums_the_positive_products_where_activations_have_both_signs():
    activation = torch.tensor([[[[-2.0]], [[-3.0]], [[5.0]], [[1.0]]]])
    gradient = torch.tensor([[[[-1.0]], [[4.0]], [[2.0]], [[-7.0]]]])

    assert LayerCAM().combine(activation, gradient).tolist() == [[[2.0 + 10.0]]]


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


@pytest.mark.parametrize(
    ("cells", "extents"),
    [((5,), (37,)), ((7, 4), (64, 50)), ((3, 4, 5), (32, 4, 41)), ((6, 6), (4, 9))],
)
def test_maps_are_enlarged_as_torch_interpolates(cells, extents):
    maps = image(2, 3, *cells)
    mode = {1: "linear", 2: "bilinear", 3: "trilinear"}[len(cells)]

    found = enlarged(maps, extents)

    expected = functional.interpolate(maps, extents, mode=mode, align_corners=False)
    assert torch.allclose(found, expected, atol=1e-6)
    assert found.is_contiguous()


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


@pytest.mark.parametrize("axes", [2, 3])
def test_cam_is_the_last_map_by_the_weights_of_the_head(axes):
    network = classifier(axes=axes)
    x = image(2, 1, *(32, 40, 24)[:axes])
    maps = network[:9](x)

    attribution = CAM().explain(network, x, ClassLogit(1))

    head = network[11]
    expected = torch.einsum("k,bk...->b...", head.weight[1], maps)[:, None]
    mode = "bilinear" if axes == 2 else "trilinear"
    expected = functional.interpolate(expected, x.shape[2:], mode=mode)
    assert attribution.layer == "8"
    assert torch.allclose(attribution.values, expected, atol=1e-6)
    mean = attribution.values.flatten(1).mean(dim=1)
    assert torch.allclose(mean, attribution.f_x - head.bias[1], atol=1e-5)


def test_cam_of_a_segment_is_what_the_last_convolution_reads_inside_it():
    network, x = meshnet(), image(1, 1, 12, 12, 12)
    mask = network(x)[0, 2] > network(x)[0, 2].median()

    attribution = CAM().explain(network, x, SegmentMass(2, mask))

    inside = attribution.values[0, 0][mask]
    assert attribution.layer == "9"
    assert torch.allclose(inside, network(x)[0, 2][mask] - network[10].bias[2], atol=1e-5)
    assert not attribution.values[0, 0][~mask].any()
    assert "where it was drawn, not why" in attribution.warnings[0]


def test_cam_is_refused_where_no_linear_layer_reads_a_map():
    with pytest.raises(UnsuitableLayerError, match=r"cam is defined .* use grad_cam"):
        CAM().explain(transformer(), image(1, 1, 48, 48), ClassLogit(0))


@pytest.mark.parametrize("layer", ["5", "6", "7"])
def test_cam_at_a_layer_that_the_head_does_not_read_is_refused(layer):
    with pytest.raises(UnsuitableLayerError, match=f"behind layer '{layer}' the network does not"):
        CAM(layers=(layer,)).explain(classifier(), image(1, 1, 48, 48), ClassLogit(0))


@pytest.mark.parametrize("extents", [(48, 40), (16, 24, 32)], ids=["2D", "3D"])
@pytest.mark.parametrize("variant", ALL[1:], ids=lambda each: each.name)
def test_tokens_are_explained_on_the_grid_of_their_patches(variant, extents):
    network, x = transformer(extents), image(2, 1, *extents)

    attribution = variant.explain(network, x, ClassLogit(1))

    assert attribution.layer == "3.norm1"
    assert attribution.values.shape == (2, 1, *extents)
    assert torch.isfinite(attribution.values).all()
    assert attribution.values.std() > 0


def test_grad_cam_of_tokens_is_its_formula_over_the_patches():
    network, x = transformer((32, 48)), image(1, 1, 32, 48)
    tokens = network[3].norm1(network[:3](x)).detach().requires_grad_()
    residual = network[:3](x) + network[3].attn(tokens)
    after = network[4:](residual + network[3].mlp(network[3].norm2(residual)))
    (gradient,) = torch.autograd.grad(after[0, 1], tokens)

    values = GradCAM(signed=True).explain(network, x, ClassLogit(1)).values

    # Patches of 8 x 8, row by row, behind one class token.
    weights = gradient[0, 1:].mean(dim=0)
    cells = (tokens.detach()[0, 1:] @ weights).reshape(1, 1, 4, 6)
    expected = functional.interpolate(cells, (32, 48), mode="bilinear")
    assert torch.allclose(values, expected, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.parametrize("layer", ["3", "4", "3.mlp"])
def test_tokens_of_which_only_the_class_token_is_read_are_refused(layer):
    with pytest.raises(UnsuitableLayerError, match="only the class token"):
        LayerCAM(layers=(layer,)).explain(transformer(), image(1, 1, 48, 48), ClassLogit(0))


class WeighedBag(nn.Module):
    """Weighs the logits of the instances of a bag [B, N, C, *S]."""

    def __init__(self, network, weights):
        super().__init__()
        self.network = network
        self.register_buffer("weights", torch.tensor(weights))

    def forward(self, x):
        logits = self.network(x.flatten(0, 1)).unflatten(0, x.shape[:2])
        return (logits * self.weights[:, None]).sum(dim=1)


@pytest.mark.parametrize("variant", [GradCAM(), HiResCAM(), LayerCAM(), XGradCAM()])
@pytest.mark.parametrize("axes", [2, 3])
def test_instances_of_a_bag_compare_by_what_the_bag_makes_of_them(variant, axes):
    network = WeighedBag(classifier(axes=axes, channels=2), [0.25, 0.75]).eval()
    x = image(2, 1, 2, *(48, 40, 24)[:axes]).repeat_interleave(2, dim=1)

    attribution = variant.explain(network, x, ClassLogit(1))

    assert attribution.values.shape == x.shape
    assert attribution.values.std() > 0
    # The same image twice: three times the weight is three times the relevance.
    assert torch.allclose(attribution.values[:, 1], 3 * attribution.values[:, 0], rtol=1e-4)
    assert torch.equal(attribution.values[:, :, 0], attribution.values[:, :, 1])


def test_an_instance_of_a_bag_is_explained_as_by_itself():
    network, x = classifier(), image(1, 3, 1, 48, 48)
    bag = WeighedBag(network, [1.0, 1.0, 1.0]).eval()

    values = LayerCAM(layers=("network.5",)).explain(bag, x, ClassLogit(1)).values

    alone = LayerCAM(layers=("5",)).explain(network, x[0], ClassLogit(1)).values
    assert torch.allclose(values[0], alone, atol=1e-6)


def test_several_layers_of_a_bag_are_fused_in_one_unit():
    fine = torch.tensor([[[4.0, 2.0], [2.0, 0.0]]])
    coarse = torch.tensor([[[0.0, 8.0], [4.0, 0.0]]])

    values = fused([fine, coarse], extents=(2,), signed=False)

    # Shares of the whole bag's greatest value, their mean times 8.
    assert values.tolist() == [[[4.0, 6.0], [4.0, 0.0]]]


@pytest.mark.parametrize("name", ["UNet", "SegResNet"])
def test_grad_cam_of_a_segment_equals_captum(name):
    torch.manual_seed(0)
    network, x = MATRIX[name].make((16, 16, 16)).eval(), image(1, 1, 16, 16, 16)
    with torch.no_grad():
        mask = network(x)[0, 1] > network(x)[0, 1].median()
    target = SegmentMass(1, mask)

    found = GradCAM().explain(network, x, target)

    captum = LayerGradCam(lambda x: target(network(x), x), network.get_submodule(found.layer))
    theirs = functional.relu(captum.attribute(x).detach())
    theirs = functional.interpolate(theirs, x.shape[2:], mode="trilinear")
    assert theirs.max() > 0
    assert (found.values - theirs).abs().max() <= 1e-5 * theirs.max()


def test_grad_cam_pp_of_a_segment_is_a_number_everywhere():
    network, x = meshnet(), image(1, 1, 12, 12, 12)
    mask = network(x)[0, 2] > network(x)[0, 2].median()

    values = GradCAMPlusPlus().explain(network, x, SegmentMass(2, mask)).values

    assert torch.isfinite(values).all()
    assert values.std() > 0


def test_a_map_that_was_cut_to_nothing_says_so():
    network = LinearAfterIdentity(-torch.ones(1, 2, 6, 5)).eval()

    attribution = HiResCAM(layers=("seen",)).explain(
        network, image(1, 2, 6, 5).abs(), ClassLogit(0)
    )

    assert not attribution.values.any()
    assert attribution.warnings == (NOTHING_FOR_IT,)


def test_of_a_layer_that_runs_again_the_last_run_counts():
    twice = nn.ReLU()
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    first, second = nn.Conv2d(1, 4, 3, stride=2), nn.Conv2d(4, 4, 3, stride=2)
    again = nn.Sequential(first, twice, second, twice, *head).eval()
    apart = nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), *head).eval()
    x = image(1, 1, 40, 40)

    named = GradCAM(layers=("1",)).explain(again, x, ClassLogit(0))
    searched = GradCAM().explain(again, x, ClassLogit(0))

    expected = GradCAM(layers=("3",)).explain(apart, x, ClassLogit(0))
    assert named.layer == searched.layer == "1"
    assert torch.equal(named.values, expected.values)
    assert torch.equal(searched.values, expected.values)
