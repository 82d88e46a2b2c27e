import math

import pytest
import torch
from monai.networks import nets
from torch import nn

from ai.errors import UnsuitableLayerError
from ai.explainers.tokens import TokenGrid, embedded_patches, grid_in, token_grid
from tests.build_networks import classifier


@pytest.mark.parametrize(
    ("tokens", "extents", "grid", "leading"),
    [
        (196, (224, 224), (14, 14), 0),
        (197, (224, 224), (14, 14), 1),
        (201, (224, 224), (14, 14), 5),
        (216, (96, 96, 96), (6, 6, 6), 0),
        (217, (96, 96, 96), (6, 6, 6), 1),
        (13, (32, 24), (4, 3), 1),
        (5, (32, 32), (2, 2), 1),
        (9, (24, 24), (3, 3), 0),
        (26, (400,), (25,), 1),
    ],
)
def test_the_grid_follows_from_the_number_of_tokens(tokens, extents, grid, leading):
    found = token_grid(tokens, extents)

    assert found.extents == grid
    assert found.leading == leading
    assert found.tokens == tokens
    assert found.covered == extents


def test_no_or_one_leading_token_of_a_plane_or_volume_is_never_ambiguous():
    for extents in ((96, 64), (48, 48), (96, 64, 32), (48, 48, 48)):
        for edge in (2, 4, 8, 16):
            grid = tuple(extent // edge for extent in extents)
            patches = math.prod(grid)

            assert token_grid(patches, extents).extents == grid
            assert token_grid(patches + 1, extents).extents == grid


def test_a_number_that_two_grids_explain_is_refused():
    with pytest.raises(UnsuitableLayerError, match=r"several.*\(3, 3\) after 2, \(2, 2\) after 7"):
        token_grid(11, (12, 12))


def test_a_signal_may_leave_open_whether_a_token_leads():
    with pytest.raises(UnsuitableLayerError, match=r"several.*\(3,\) after 0, \(2,\) after 1"):
        token_grid(3, (6,))


@pytest.mark.parametrize("tokens", [0, 3, 100, 195, 206])
def test_a_number_that_no_grid_explains_is_refused(tokens):
    with pytest.raises(UnsuitableLayerError, match=f"no grid of equal patches explains {tokens} "):
        token_grid(tokens, (224, 224))


def test_a_known_patch_allows_unequal_edges_and_a_rest():
    unequal = token_grid(17, (32, 64), patch=(8, 16))
    rest = token_grid(36, (100, 100), patch=(16, 16))
    registers = token_grid(11, (12, 12), patch=(4, 4))

    assert unequal == TokenGrid(extents=(4, 4), leading=1, patch=(8, 16))
    assert rest.covered == (96, 96)
    assert registers == TokenGrid(extents=(3, 3), leading=2, patch=(4, 4))


@pytest.mark.parametrize(
    ("tokens", "patch"), [(15, (8, 16)), (40, (8, 16)), (4, (64, 64)), (17, (8,)), (17, (0, 8))]
)
def test_a_patch_that_does_not_explain_the_number_is_refused(tokens, patch):
    with pytest.raises(UnsuitableLayerError, match=f"patches of .* explains {tokens} tokens"):
        token_grid(tokens, (32, 64), patch=patch)


def test_a_network_shows_its_patch_by_the_convolution_that_embeds_it():
    network = nn.Sequential(classifier(), nn.Conv2d(1, 4, (8, 16), stride=(8, 16)))

    assert embedded_patches(network, 2) == [(8, 16)]
    assert embedded_patches(network, 3) == []
    assert grid_in(network, 17, (32, 64)).extents == (4, 4)


def test_a_network_that_shows_no_fitting_patch_has_even_ones():
    down = nn.Conv2d(1, 4, 2, stride=2)

    assert grid_in(down, 17, (32, 32)).patch == (8, 8)
    assert grid_in(classifier(), 17, (32, 32)).patch == (8, 8)


def test_a_known_patch_settles_what_the_number_leaves_open():
    vit = nets.ViT(1, (36, 36), 12, 24, 48, 1, 3, spatial_dims=2)

    assert grid_in(vit, 11, (36, 36)).extents == (3, 3)
    with pytest.raises(UnsuitableLayerError, match="several"):
        token_grid(11, (36, 36))


def test_tokens_become_a_map_with_the_last_axis_fastest():
    grid = TokenGrid(extents=(2, 3), leading=1, patch=(4, 4))
    tokens = torch.stack([torch.arange(7), 10 * torch.arange(7)], dim=1)[None].float()

    laid_out = grid.as_map(tokens)

    assert laid_out.shape == (1, 2, 2, 3)
    assert laid_out[0, 0].tolist() == [[1, 2, 3], [4, 5, 6]]
    assert laid_out[0, 1].tolist() == [[10, 20, 30], [40, 50, 60]]


def test_the_map_lies_as_the_embedding_of_patches_put_it():
    image = torch.zeros(1, 1, 8, 12, 16)
    image[0, 0, 4:8, 8:12, 0:4] = 1
    embedding = nn.Conv3d(1, 1, 4, stride=4)
    tokens = embedding(image).flatten(2).transpose(1, 2)

    laid_out = token_grid(24, (8, 12, 16)).as_map(tokens)

    assert torch.equal(laid_out, embedding(image))


@pytest.mark.parametrize("shape", [(1, 6, 2), (1, 8, 2), (7, 2)])
def test_another_number_of_tokens_than_the_grid_has_is_refused(shape):
    with pytest.raises(UnsuitableLayerError, match=r"expected \[B, 7, K\]"):
        TokenGrid(extents=(2, 3), leading=1, patch=(4, 4)).as_map(torch.zeros(shape))
