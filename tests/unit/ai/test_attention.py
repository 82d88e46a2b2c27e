import numpy as np
import pytest
import torch
from monai.networks import nets
from monai.networks.blocks import SABlock
from torch import nn
from torch.nn import functional

from ai.explainers.attention import AttentionRollout, GradAttention
from ai.targets import ClassLogit, SegmentMass
from tests.build_networks import FirstToken, image, transformer

FIRST = torch.tensor([[0.4, 0.3, 0.1, 0.1, 0.1]]).repeat(5, 1)
SECOND = torch.tensor([[0.2, 0.2, 0.2, 0.2, 0.2]] * 4 + [[0.0, 0.0, 0.0, 0.0, 1.0]])


class Attention(nn.Module):
    """Adds to tokens [B, N, K] what each gathers by known matrices [H, N, N]."""

    def __init__(self, *heads):
        super().__init__()
        self.logits = torch.stack(heads).log()
        self.values = nn.Linear(1, 1, bias=False)
        nn.init.ones_(self.values.weight)

    def forward(self, tokens):
        weights = self.logits.expand(tokens.shape[0], -1, -1, -1).softmax(dim=-1)
        return tokens + (weights @ self.values(tokens)[:, None]).mean(dim=1)


class Pixels(nn.Module):
    """Makes a token of each pixel."""

    def forward(self, x):
        return x.flatten(2).transpose(1, 2)


class Read(nn.Module):
    """Returns a weighted sum over tokens."""

    def __init__(self, weights):
        super().__init__()
        self.weights = torch.tensor(weights)

    def forward(self, tokens):
        return torch.einsum("n,bnk->bk", self.weights, tokens)


class ZeroInFront(nn.Module):
    """Puts a class token of value 0 in front."""

    def forward(self, tokens):
        return functional.pad(tokens, (0, 0, 1, 0))


class PooledTokens(nn.Module):
    """Pools tokens [B, N, 1] by attention that follows their value."""

    def forward(self, tokens):
        return (tokens * tokens.softmax(dim=1)).sum(dim=1)


class Pooled(nn.Module):
    """Pools instances [B, N, 1, *S] by attention that follows their mean."""

    def forward(self, x):
        means = x.flatten(2).mean(dim=2, keepdim=True)
        return (means * means.softmax(dim=1)).sum(dim=1)


def reading_the_class_token(*layers):
    return nn.Sequential(Pixels(), ZeroInFront(), *layers, FirstToken()).eval()


def vit(axes=2, **options):
    torch.manual_seed(0)
    extents = (32, 24, 16)[:axes]
    network = nets.ViT(
        1, extents, 8, 24, 48, 3, 3, classification=True, spatial_dims=axes, **options
    )
    return sharpened(network), image(2, 1, *extents)


def sharpened(network):
    for block in network.modules():
        if isinstance(block, SABlock):
            nn.init.normal_(block.qkv.weight, std=0.5)
    return network.eval()


def on_pixels(cells, extents, x):
    mode = "trilinear" if len(extents) == 3 else "bilinear"
    laid_out = torch.as_tensor(np.asarray(cells)).float().reshape(len(x), 1, *extents)
    return functional.interpolate(laid_out, x.shape[2:], mode=mode, align_corners=False)


def test_rollout_of_one_layer_is_half_of_what_the_class_token_attends_to():
    network, x = reading_the_class_token(Attention(FIRST)), image(1, 1, 2, 2)

    values = AttentionRollout().explain(network, x, ClassLogit(0)).values

    assert torch.allclose(values.flatten(), torch.tensor([0.15, 0.05, 0.05, 0.05]))


def test_rollout_multiplies_the_layers_with_their_skips():
    network = reading_the_class_token(Attention(FIRST), Attention(SECOND))
    identity = np.eye(5)
    rolled = (SECOND.numpy() + identity) / 2 @ ((FIRST.numpy() + identity) / 2)

    values = AttentionRollout().explain(network, image(1, 1, 2, 2), ClassLogit(0)).values

    assert np.allclose(values.numpy().ravel(), rolled[0, 1:])


def test_rollout_without_a_class_token_is_the_mean_over_tokens():
    first = FIRST[1:, 1:] / FIRST[1:, 1:].sum(dim=1, keepdim=True)
    network = nn.Sequential(Pixels(), Attention(first), Read([1.0, 0, 0, 0])).eval()

    values = AttentionRollout().explain(network, image(1, 1, 2, 2), ClassLogit(0)).values

    assert torch.allclose(values.flatten(), (first.mean(dim=0) + 0.25) / 2)
    assert values.sum() == pytest.approx(1)


@pytest.mark.parametrize(
    ("fusion", "row"),
    [("mean", [0.3, 0.25, 0.15, 0.15, 0.15]), ("max", [4, 3, 2, 2, 2]), ("min", [2, 2, 1, 1, 1])],
)
def test_heads_are_fused_as_asked_and_still_shares(fusion, row):
    network = reading_the_class_token(Attention(FIRST, SECOND))
    shares = torch.tensor(row) / sum(row)

    values = (
        AttentionRollout(head_fusion=fusion)
        .explain(network, image(1, 1, 2, 2), ClassLogit(0))
        .values
    )

    assert torch.allclose(values.flatten(), shares[1:] / 2)


def test_an_unknown_fusion_is_refused():
    with pytest.raises(ValueError, match="'median' is not known; expected one of"):
        AttentionRollout(head_fusion="median")


def test_gradient_weighs_what_the_class_token_attends_to():
    # The class token becomes the sum of A x, so that the gradient at A is x.
    network, x = reading_the_class_token(Attention(FIRST)), image(1, 1, 2, 2)

    attribution = GradAttention().explain(network, x, ClassLogit(0))

    expected = (FIRST[0, 1:] * x.flatten()).clamp(min=0)
    assert expected.count_nonzero() not in {0, 4}
    assert torch.allclose(attribution.values.flatten(), expected)


def test_heads_that_speak_against_the_target_do_not_cancel_those_that_speak_for_it():
    network, x = reading_the_class_token(Attention(FIRST, SECOND)), image(1, 1, 2, 2)

    values = GradAttention().explain(network, x, ClassLogit(0)).values

    # Each head has half of the mean over heads.
    halves = [(0.5 * head[0, 1:] * x.flatten()).clamp(min=0) for head in (FIRST, SECOND)]
    assert torch.allclose(values.flatten(), (halves[0] + halves[1]) / 2)


def test_one_token_that_is_read_counts_as_much_as_all_that_it_gathered():
    first = FIRST[1:, 1:] / FIRST[1:, 1:].sum(dim=1, keepdim=True)
    network = nn.Sequential(Pixels(), Attention(first), Read([0, 0, 1.0, 0])).eval()
    x = image(1, 1, 2, 2).abs()

    values = GradAttention().explain(network, x, ClassLogit(0)).values

    gathered = first[2] * x.flatten()
    gathered[2] += gathered.sum()
    assert torch.allclose(values.flatten(), gathered)


def test_several_tokens_that_are_read_count_by_their_share():
    second = SECOND[1:, 1:] / SECOND[1:, 1:].sum(dim=1, keepdim=True)
    read = [2.0, -1.0, 0.5, 0.0]
    network = nn.Sequential(Pixels(), Attention(second), Read(read)).eval()
    x = image(1, 1, 2, 2)

    values = GradAttention().explain(network, x, ClassLogit(0)).values

    product = np.array(read)[:, None] * second.numpy() * x.numpy().reshape(1, 4)
    shares = np.abs(product).sum(axis=1) / np.abs(product).sum()
    gathered = np.maximum(product, 0)
    sizes = gathered.sum(axis=1)
    rows = gathered / np.where(sizes > 0, sizes, 1)[:, None] + np.eye(4)
    assert np.allclose(values.numpy().ravel(), (shares @ sizes) * (shares @ rows))


@pytest.mark.parametrize("axes", [2, 3])
def test_rollout_of_a_vit_is_that_of_the_matrices_it_saves(axes):
    network, x = vit(axes, save_attn=True)

    values = AttentionRollout().explain(network, x, ClassLogit(1)).values

    network(x)
    rolled = np.eye(network.blocks[0].attn.att_mat.shape[-1])
    for block in network.blocks:
        mixed = block.attn.att_mat.double().numpy().mean(axis=1)
        rolled = (mixed + np.eye(mixed.shape[-1])) / 2 @ rolled
    grid = [extent // 8 for extent in x.shape[2:]]
    assert torch.allclose(values, on_pixels(rolled[:, 0, 1:], grid, x), atol=1e-6)


@pytest.mark.parametrize("axes", [2, 3])
def test_gradient_attention_of_a_vit_is_the_row_of_the_papers_whole_product(axes):
    network, x = vit(axes, post_activation="")

    values = GradAttention().explain(network, x, ClassLogit(1)).values

    matrices = []
    for block in network.blocks:
        block.attn.drop_weights.register_forward_pre_hook(
            lambda _, given: matrices.append(given[0])
        )
    gradients = torch.autograd.grad(network(x)[0][:, 1].sum(), matrices)
    rolled = np.eye(matrices[0].shape[-1])
    for matrix, gradient in zip(matrices, gradients, strict=True):
        mixed = (matrix * gradient).clamp(min=0).mean(dim=1).detach().double().numpy()
        rolled = rolled + mixed @ rolled
    grid = [extent // 8 for extent in x.shape[2:]]
    expected = on_pixels(rolled[:, 0, 1:], grid, x)
    assert torch.allclose(values, expected, atol=1e-5 * expected.max())


def test_rollout_ignores_the_target_and_says_so_and_the_gradient_does_not():
    network, x = transformer(), image(1, 1, 48, 48)

    rollout, other = (AttentionRollout().explain(network, x, ClassLogit(k)) for k in (0, 1))
    weighed, against = (GradAttention().explain(network, x, ClassLogit(k)).values for k in (0, 1))

    assert torch.equal(rollout.values, other.values)
    assert rollout.warnings == ("the map does not depend on the target",)
    assert (weighed - against).abs().max() > 0.1 * weighed.max()


def test_a_segment_is_explained_by_the_tokens_that_its_decoder_reads():
    torch.manual_seed(0)
    network = sharpened(nets.UNETR(1, 3, (64, 32), 2, 12, 24, 3, spatial_dims=2))
    x = image(1, 1, 64, 32)
    mask = torch.zeros(64, 32, dtype=torch.bool)
    mask[:16] = True

    above = GradAttention().explain(network, x, SegmentMass(1, mask)).values
    below = GradAttention().explain(network, x, SegmentMass(1, mask.flip(0))).values

    assert above.shape == x.shape
    assert above[:, :, :16].mean() > above[:, :, 48:].mean()
    assert below[:, :, :16].mean() < below[:, :, 48:].mean()


def test_a_bag_is_explained_by_the_attention_to_its_instances():
    bag = image(2, 3, 1, 8, 8)
    weights = bag.flatten(2).mean(dim=2).softmax(dim=1)

    rollout = AttentionRollout().explain(Pooled().eval(), bag, ClassLogit(0)).values
    weighed = GradAttention().explain(Pooled().eval(), bag, ClassLogit(0)).values

    means = bag.flatten(2).mean(dim=2)
    assert rollout.shape == weighed.shape == bag.shape
    assert torch.allclose(rollout.flatten(2), weights[:, :, None].expand(2, 3, 64))
    assert torch.allclose(weighed[:, :, 0, 3, 5], (weights * means).clamp(min=0))


def test_tokens_that_attention_pools_count_by_its_weights():
    first = FIRST[1:, 1:] / FIRST[1:, 1:].sum(dim=1, keepdim=True)
    network = nn.Sequential(Pixels(), Attention(first), PooledTokens()).eval()
    x = image(1, 1, 2, 2).abs()

    rollout = AttentionRollout().explain(network, x, ClassLogit(0)).values
    weighed = GradAttention().explain(network, x, ClassLogit(0)).values

    pixels, (mixed,) = x.flatten(), network[:2](x)[..., 0]
    pooling = mixed.softmax(dim=0)
    # What the pooled sum changes by with the attention of token i to token j; tokens decide
    # on their own weight as well.
    slope = pooling * (1 + mixed - (pooling * mixed).sum())
    gathered = (slope[:, None] * first * pixels).clamp(min=0)
    sizes = gathered.sum(dim=1, keepdim=True)
    rows = gathered / torch.where(sizes > 0, sizes, 1) + torch.eye(4)
    assert torch.allclose(rollout.flatten(), (pooling + pooling @ first) / 2)
    assert torch.allclose(weighed.flatten(), (pooling * mixed).clamp(min=0) @ rows)


def test_a_saturated_output_has_no_gradient_and_the_map_says_so():
    network, x = vit(post_activation="Tanh")
    with torch.no_grad():
        network.classification_head[0].bias[1] = 50

    attribution = GradAttention().explain(network, x, ClassLogit(1))

    assert attribution.values.abs().max() == 0
    (warning,) = attribution.warnings
    assert "no gradient reaches the attention in 2 of 2 entries" in warning
    assert not GradAttention().explain(network, x, ClassLogit(0)).warnings


def test_where_no_patch_reaches_the_last_goes_on():
    torch.manual_seed(0)
    network = sharpened(nets.ViT(1, (20, 16), 8, 24, 48, 2, 3, classification=True, spatial_dims=2))
    x = image(1, 1, 20, 16)

    values = AttentionRollout().explain(network, x, ClassLogit(1)).values

    assert values.shape == x.shape
    assert torch.equal(values[:, :, 16:], values[:, :, 15:16].expand(-1, -1, 4, -1))
    assert not torch.equal(values[:, :, :8], values[:, :, 8:16])


def test_the_estimate_counts_the_bytes_of_attention_and_of_the_graph():
    network, x = vit()
    matrix = 4 * 13**2

    rollout = AttentionRollout().estimate_cost(network, x)
    weighed = GradAttention().estimate_cost(network, x)

    assert rollout.peak_bytes == 2 * (3 * matrix + 2 * 3 * matrix)
    assert rollout == AttentionRollout().explain(network, x, ClassLogit(1)).cost
    # Three layers of three heads: kept for the softmax, for what follows, and as a gradient.
    assert weighed.peak_bytes > 2 * 3 * 3 * 3 * matrix
    spent = GradAttention().explain(network, x, ClassLogit(1)).cost
    assert spent.peak_bytes <= weighed.peak_bytes < 1.2 * spent.peak_bytes
