import pytest
import torch
from monai.networks import nets
from monai.networks.blocks import PatchEmbeddingBlock
from torch import nn

from ai.errors import OpaqueNetworkError, UnsuitableLayerError
from ai.explainers.attention import AttentionRollout, GradAttention
from ai.targets import ClassLogit
from tests.build_networks import ClassTokenInFront, classifier, image, transformer

BOTH = pytest.mark.parametrize(
    "method", [AttentionRollout(), GradAttention()], ids=lambda each: each.name
)


class EverySecond(nn.Module):
    """Returns every second token."""

    def forward(self, tokens):
        return tokens[:, ::2]


class Padded(nn.Module):
    """Attends to tokens of which none is padding."""

    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(24, 3, batch_first=True)

    def forward(self, tokens):
        padding = torch.zeros(tokens.shape[:2], dtype=torch.bool)
        return self.attention(tokens, tokens, tokens, key_padding_mask=padding)[0]


class OneQuery(nn.Module):
    """Pools tokens by attention from one learned query."""

    def __init__(self):
        super().__init__()
        self.query = nn.Parameter(torch.randn(1, 1, 24))
        self.attention = nn.MultiheadAttention(24, 3, batch_first=True)

    def forward(self, tokens):
        query = self.query.expand(tokens.shape[0], -1, -1)
        return self.attention(query, tokens, tokens)[0][:, 0]


class AcrossTokens(nn.Module):
    """Lets tokens attend to every second of them."""

    def forward(self, tokens):
        keys = tokens[:, None, ::2]
        return nn.functional.scaled_dot_product_attention(tokens[:, None], keys, keys)[:, 0]


class BetweenChannels(nn.Module):
    """Lets the 36 channels of 4 x 4 tokens attend to each other."""

    def forward(self, tokens):
        channels = tokens.transpose(1, 2)
        return nn.functional.scaled_dot_product_attention(channels, channels, channels).mean(dim=2)


class OfTorch(nn.Module):
    """Attention by torch's own module, on the weights of a block of MONAI."""

    def __init__(self, block):
        super().__init__()
        self.attention = nn.MultiheadAttention(24, 3, bias=True, batch_first=True)
        self.attention.load_state_dict(
            {
                "in_proj_weight": block.qkv.weight,
                "in_proj_bias": torch.zeros(72),
                "out_proj.weight": block.out_proj.weight,
                "out_proj.bias": block.out_proj.bias,
            }
        )

    def forward(self, x, attn_mask=None):
        return self.attention(x, x, x, need_weights=False)[0]


@BOTH
def test_torchs_multihead_attention_is_seen(method):
    network, x = transformer(), image(2, 1, 48, 48)
    expected = method.explain(network, x, ClassLogit(1)).values

    for block in network[2:4]:
        block.attn = OfTorch(block.attn)
    values = method.explain(network.eval(), x, ClassLogit(1)).values

    assert torch.allclose(values, expected, atol=1e-5 * expected.max())


@pytest.mark.filterwarnings("ignore:enable_nested_tensor")
@pytest.mark.parametrize("mode", ["att", "att_trans"])
def test_milmodel_is_explained_by_instance(mode):
    torch.manual_seed(0)
    backbone = nn.Sequential(*list(classifier())[:-1])
    network = nets.MILModel(
        3, mode, pretrained=False, backbone=backbone, backbone_num_features=8, trans_blocks=2
    ).eval()
    bag = image(1, 4, 1, 32, 32)

    rollout = AttentionRollout().explain(network, bag, ClassLogit(1)).values
    weighed = GradAttention().explain(network, bag, ClassLogit(1)).values

    features = network(bag, no_head=True)
    pooling = network.attention(features).softmax(dim=1)[:, :, 0].detach()
    shares = rollout[:, :, 0, 0, 0]
    assert shares.sum() == pytest.approx(1)
    assert torch.allclose(shares, pooling, atol=1e-6) == (mode == "att")
    evidence = (pooling * (features @ network.myfc.weight[1])).clamp(min=0).detach()
    assert torch.allclose(weighed[:, :, 0, 0, 0], evidence, atol=1e-6) == (mode == "att")
    assert weighed.shape == bag.shape


@BOTH
@pytest.mark.parametrize(
    ("make", "x", "message"),
    [
        (
            lambda: nets.SwinUNETR(
                1, 3, depths=(1, 1, 1, 1), window_size=4, feature_size=12, spatial_dims=2
            ),
            image(1, 1, 64, 64),
            r"is not defined on attention inside windows .* use layer_cam or lrp",
        ),
        (classifier, image(1, 1, 48, 48), "needs attention between patches, and the network has"),
        (
            lambda: nn.Sequential(transformer()[:4], EverySecond(), transformer()[2:]),
            image(1, 1, 48, 48),
            r"the same tokens through all layers",
        ),
        (
            lambda: nn.Sequential(
                transformer()[0], *(ClassTokenInFront(24) for _ in range(9)), transformer()[1:]
            ),
            image(1, 1, 48, 48),
            "no grid of equal patches explains 46 tokens",
        ),
        (
            lambda: nn.Sequential(transformer()[:4], AcrossTokens(), transformer()[4:]),
            image(1, 1, 48, 48),
            "some attend to others",
        ),
        (
            lambda: nn.Sequential(transformer()[:4], Padded(), transformer()[4:]),
            image(1, 1, 48, 48),
            "attention cannot be written out: multi-head attention with padding",
        ),
        (
            lambda: nn.Sequential(
                PatchEmbeddingBlock(1, 24, 6, 36, 3, spatial_dims=2), BetweenChannels()
            ),
            image(1, 1, 24, 24),
            "its 36 rows are none: channels?",
        ),
    ],
    ids=["Swin", "CNN", "pyramid", "no grid", "across", "padded", "channels"],
)
def test_what_has_no_attention_between_all_patches_is_refused(method, make, x, message):
    network = make().eval()

    with pytest.raises(UnsuitableLayerError, match=message):
        method.explain(network, x, ClassLogit(0))
    with pytest.raises(UnsuitableLayerError, match=message):
        method.estimate_cost(network, x)


@BOTH
def test_attention_that_torch_computes_in_one_call_is_seen(method):
    network, x = transformer(), image(2, 1, 48, 48)
    expected = method.explain(network, x, ClassLogit(1)).values

    for block in network[2:4]:
        block.attn.use_flash_attention = True
    values = method.explain(network, x, ClassLogit(1)).values

    assert torch.allclose(values, expected, atol=1e-6 * expected.max())


def test_a_query_that_pools_the_tokens_is_read():
    torch.manual_seed(0)
    patches, _, first, second, *_ = transformer()
    network = nn.Sequential(patches, first, second, OneQuery(), nn.Linear(24, 3)).eval()
    first.attn.save_attn = second.attn.save_attn = True
    x = image(1, 1, 48, 48)

    values = AttentionRollout().explain(network, x, ClassLogit(1)).values

    tokens = network[:3](x)
    row = network[3].attention(network[3].query, tokens, tokens)[1][0, 0]
    for block in (second, first):
        row = (row + row @ block.attn.att_mat[0].mean(dim=0)) / 2
    expected = nn.functional.interpolate(row.reshape(1, 1, 6, 6), (48, 48), mode="bilinear")
    assert torch.allclose(values, expected, atol=1e-6)


@BOTH
def test_a_bag_without_attention_between_its_instances_is_refused(method):
    network = nets.MILModel(
        3, "mean", pretrained=False, backbone=classifier()[:-1], backbone_num_features=8
    ).eval()

    with pytest.raises(UnsuitableLayerError, match="needs attention between patches"):
        method.explain(network, image(1, 4, 1, 32, 32), ClassLogit(1))


@BOTH
def test_attention_inside_the_instances_of_a_bag_is_left_out_and_told(method):
    network = nets.MILModel(
        3, "att", pretrained=False, backbone=transformer(classes=8), backbone_num_features=8
    ).eval()

    attribution = method.explain(network, image(1, 4, 1, 48, 48), ClassLogit(1))

    assert "attention (4, 3, 37, 37) is left out" in attribution.warnings


@BOTH
@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
def test_a_scripted_part_is_refused_since_its_attention_cannot_be_seen(method):
    network = transformer()
    network[6] = torch.jit.script(network[6])

    with pytest.raises(OpaqueNetworkError, match="use occlusion"):
        method.explain(network, image(1, 1, 48, 48), ClassLogit(1))


@BOTH
def test_a_target_that_no_attention_leads_to_is_refused_or_ignored(method):
    network, x = transformer(), image(1, 1, 48, 48)

    def brightness(output, x):
        return x.flatten(1).mean(dim=1)

    if method.name == "attention_rollout":
        assert torch.equal(
            method.explain(network, x, brightness).values,
            method.explain(network, x, ClassLogit(1)).values,
        )
    else:
        with pytest.raises(
            UnsuitableLayerError, match="does not depend on the network's attention"
        ):
            method.explain(network, x, brightness)
