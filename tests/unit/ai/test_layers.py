import pytest
import torch
from monai.networks import nets
from torch import nn

from ai.explainers.feature_maps import is_bag
from ai.explainers.layers import coarsest_layer, deepest_layer, fine_layers, middle_layer
from ai.explainers.layout import layout_of
from tests.build_networks import classifier, image, meshnet, token_segmenter, transformer


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


class Bag(nn.Module):
    """Runs a network on each instance of a bag [B, N, C, *S] and weighs its logits."""

    def __init__(self, network, weights):
        super().__init__()
        self.network = network
        self.register_buffer("weights", torch.tensor(weights))

    def forward(self, x):
        logits = self.network(x.flatten(0, 1)).unflatten(0, x.shape[:2])
        return (logits * self.weights[:, None]).sum(dim=1)


class ChannelsLast(nn.Module):
    """Has blocks that return [B, *s, K], as shifted windows have."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Conv2d(1, 6, 4, stride=4)
        self.norm = nn.LayerNorm(6)
        self.block = nn.Sequential(nn.Linear(6, 6), nn.GELU())
        self.head = nn.Linear(6, 3)

    def forward(self, x):
        return self.head(self.block(self.norm(self.embed(x).movedim(1, -1))).mean(dim=(1, 2)))


class DownAgain(nn.Module):
    """A decoder that looks at the coarsest map once more after it has gone up."""

    def __init__(self):
        super().__init__()
        self.down = nn.Conv2d(1, 4, 8, stride=8)
        self.up = nn.ConvTranspose2d(4, 4, 8, stride=8)
        self.again = nn.Conv2d(4, 4, 8, stride=8)
        self.out = nn.ConvTranspose2d(4, 4, 8, stride=8)

    def forward(self, x):
        up = self.up(self.down(x))
        return up + self.out(self.again(up))


def test_behind_a_class_token_the_layer_is_the_last_whose_patches_have_a_say():
    network = transformer((48, 48))

    layout = layout_of(network, image(1, 1, 48, 48))

    assert fine_layers(layout) == coarsest_layer(layout) == ("3.norm1",)
    assert deepest_layer(layout) == "3.norm1"
    chosen = next(each for each in layout.maps if each.name == "3.norm1")
    assert (chosen.stride, chosen.leading, chosen.is_tokens) == (8, 1, True)
    # The last block and what follows: there only the class token is read.
    assert not {"3", "4", "3.mlp"} & {each.name for each in layout.maps}


def test_without_a_class_token_the_last_tokens_are_as_good_as_a_map():
    layout = layout_of(token_segmenter((16, 16, 16)), image(1, 1, 16, 16, 16))

    assert {"1", "2"} <= {each.name for each in layout.maps if each.is_tokens}
    assert coarsest_layer(layout) == ("3",)


def test_attention_matrices_and_padded_maps_are_no_feature_maps():
    network = nn.Sequential(nn.ZeroPad2d(1), nn.Conv2d(1, 4, 3, stride=2), nn.Softmax(dim=-1))

    layout = layout_of(network.eval(), image(1, 3, 16, 16)[:, :1])

    assert [each.name for each in layout.maps] == ["1"]


def test_maps_with_their_channels_last_are_read_as_what_they_are():
    layout = layout_of(ChannelsLast().eval(), image(1, 1, 48, 48))

    assert {(each.name, each.stride, each.channels) for each in layout.maps} == {
        (name, 4, 6) for name in ("embed", "norm", "block", "block.0", "block.1")
    }
    assert coarsest_layer(layout) == ("block",)


def test_a_map_behind_the_way_up_is_not_on_the_way_down():
    layout = layout_of(DownAgain().eval(), image(1, 1, 48, 48))

    assert coarsest_layer(layout) == ("down",)


def test_a_bag_is_recognized_by_the_axes_of_the_convolutions():
    plane, volume = classifier(axes=2), classifier(axes=3)

    assert is_bag(plane, image(1, 4, 1, 8, 8))
    assert is_bag(volume, image(1, 4, 1, 8, 8, 8))
    assert not is_bag(plane, image(1, 1, 8, 8))
    assert not is_bag(volume, image(1, 4, 8, 8, 8))


@pytest.mark.parametrize("axes", [2, 3])
def test_layers_of_a_bag_are_those_of_its_instances(axes):
    network = Bag(classifier(axes=axes), [0.3, 0.7]).eval()
    extents = (32, 40, 24)[:axes]

    layout = layout_of(network, image(1, 2, 1, *extents))

    assert coarsest_layer(layout) == ("network.8",)
    assert layout.extent == 40
    assert deepest_layer(layout) == "network.8"


def test_the_search_goes_on_to_the_end_of_the_network():
    blocks = [
        layer
        for inputs, outputs in ((1, 4), (4, 6), (6, 8), (8, 10), (10, 12))
        for layer in (nn.Conv2d(inputs, outputs, 3, stride=2, padding=1), nn.ReLU(inplace=True))
    ]
    network = nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 2))

    layout = layout_of(network.eval(), image(1, 1, 64, 64))

    # Of 32 x 32 cells one is left at stride 32; of 64 x 32 two.
    assert deepest_layer(layout) == "9"
    assert layout.read_linearly == "9"
    assert layout.forwards == pytest.approx(0.25 + 0.5)


class LogSumExp(nn.Module):
    def forward(self, x):
        return torch.logsumexp(x.flatten(2), dim=2)


def pooled_classifier(*last):
    return nn.Sequential(nn.Conv2d(1, 5, 4, stride=4), nn.ReLU(), *last).eval()


@pytest.mark.parametrize(
    ("last", "read"),
    [
        ((nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(), nn.Linear(5, 3)), "1"),
        ((nn.Conv2d(5, 3, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()), "1"),
        ((nn.Conv2d(5, 3, 1, bias=False),), "1"),
        ((nn.Conv2d(5, 3, 1), LogSumExp()), None),
        ((nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(5, 3)), None),
        ((nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 3), nn.Sigmoid()), None),
        ((nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LayerNorm(5), nn.Linear(5, 3)), None),
    ],
    ids=["pooled", "evidence", "outline on a coarser grid", "smooth maximum", "maximum",
         "squashed", "normalized"],
)  # fmt: skip
def test_a_linear_head_is_known_by_what_it_gives(last, read):
    torch.manual_seed(0)

    layout = layout_of(pooled_classifier(*last), image(1, 1, 24, 24))

    assert layout.read_linearly == read


def test_a_linear_head_may_read_a_map_at_each_place():
    layout = layout_of(meshnet(), image(1, 1, 12, 12, 12))

    assert layout.read_linearly == "9"
