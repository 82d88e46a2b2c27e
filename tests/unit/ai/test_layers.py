import pytest
import torch
from monai.networks import nets
from torch import nn

from ai.explainers.layers import coarsest_layer, fine_layers, middle_layer
from ai.explainers.layout import layout_of
from tests.build_networks import classifier, image, meshnet


def strides(layout, names):
    return [next(each.stride for each in layout.maps if each.name == name) for name in names]


@pytest.mark.parametrize(
    ("make", "shape", "fine", "coarsest"),
    [
        (
            lambda: nets.DenseNet121(spatial_dims=2, in_channels=1, out_channels=2),
            (1, 1, 224, 224),
            ("features.transition2.relu", "features.transition3.relu"),
            ("class_layers.relu",),
        ),
        (
            lambda: nets.DenseNet121(spatial_dims=3, in_channels=1, out_channels=2),
            (1, 1, 64, 64, 64),
            ("features.transition2.relu",),
            ("features.transition3.relu",),
        ),
        (
            lambda: nets.UNet(3, 1, 2, (4, 8, 16, 32), (2, 2, 2)),
            (1, 1, 64, 64, 64),
            ("model.1.submodule.1.submodule.1",),
            ("model.1.submodule.1.submodule.1",),
        ),
        (meshnet, (1, 1, 40, 40, 40), ("5",), ("5",)),
    ],
    ids=["DenseNet121 2D", "DenseNet121 3D", "UNet", "MeshNet"],
)
def test_layers_are_found_by_the_stride_of_their_maps(make, shape, fine, coarsest):
    layout = layout_of(make().eval(), image(*shape))

    assert fine_layers(layout) == fine
    assert coarsest_layer(layout) == coarsest


def test_small_inputs_are_explained_at_finer_strides():
    network = classifier()

    large = layout_of(network, image(1, 1, 128, 128))
    small = layout_of(network, image(1, 1, 24, 24))

    assert strides(large, fine_layers(large)) == [8]
    assert strides(small, fine_layers(small)) == [4]


def test_rectified_maps_come_before_those_that_are_not():
    layout = layout_of(classifier(), image(1, 1, 128, 128))

    (name,) = fine_layers(layout)

    assert isinstance(classifier()[int(name)], nn.ReLU)


def test_the_probe_costs_a_fraction_of_a_pass():
    runs = []
    network = classifier()
    network[0].register_forward_hook(lambda _module, inputs, _output: runs.append(inputs[0].shape))

    layout = layout_of(network, image(2, 1, 256, 256))

    assert runs == [(1, 1, 64, 64)]
    assert layout.forwards == pytest.approx(1 / 16)


def test_a_network_of_fixed_size_is_probed_in_full():
    network = nn.Sequential(classifier()[:3], nn.Flatten(), nn.Linear(4 * 24 * 24, 2)).eval()

    layout = layout_of(network, image(1, 1, 48, 48))

    assert layout.forwards == pytest.approx(1 + (32 / 48) ** 2)
    assert fine_layers(layout) == ("0",)


def test_depth_goes_from_the_first_layer_to_the_last():
    layout = layout_of(meshnet(), image(1, 1, 16, 16, 16))

    assert middle_layer(layout, depth=0.0) == ("1",)
    assert middle_layer(layout, depth=1.0) == ("9",)
    assert layout.bytes_from("9") < layout.bytes_from("1")


def test_probing_leaves_no_hook():
    network = classifier()

    layout_of(network, image(1, 1, 48, 48))

    assert not any(module._forward_hooks for module in network.modules())
    assert torch.is_grad_enabled()
