import pytest
import torch

from ai.errors import UnsuitableLayerError
from ai.explainers.tokens import TokenGrid, token_grid


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

    assert found == TokenGrid(extents=grid, leading=leading)
    assert found.tokens == tokens


def test_no_or_one_leading_token_is_never_ambiguous():
    for edge in (2, 4, 8, 16):
        for extents in ((96, 64), (48, 48), (96, 64, 32), (48, 48, 48)):
            if any(extent % edge for extent in extents):
                continue
            expected = tuple(extent // edge for extent in extents)
            patches = int(torch.tensor(expected).prod())

            assert token_grid(patches, extents).extents == expected
            assert token_grid(patches + 1, extents).extents == expected


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
    assert token_grid(17, (32, 64), patch=(8, 16)) == TokenGrid(extents=(4, 4), leading=1)
    assert token_grid(36, (100, 100), patch=(16, 16)) == TokenGrid(extents=(6, 6), leading=0)
    assert token_grid(11, (12, 12), patch=(4, 4)) == TokenGrid(extents=(3, 3), leading=2)


@pytest.mark.parametrize(
    ("tokens", "patch", "message"),
    [
        (15, (8, 16), "patches of .* make 16 .* 15 tokens"),
        (40, (8, 16), "patches of .* make 16 .* 40 tokens"),
        (4, (64, 64), "make 0 "),
        (17, (8,), "does not tile"),
        (17, (0, 8), "does not tile"),
    ],
)
def test_a_patch_that_does_not_fit_is_refused(tokens, patch, message):
    with pytest.raises(UnsuitableLayerError, match=message):
        token_grid(tokens, (32, 64), patch=patch)


def test_tokens_become_a_map_with_the_last_axis_fastest():
    grid = TokenGrid(extents=(2, 3), leading=1)
    tokens = torch.stack([torch.arange(7), 10 * torch.arange(7)], dim=1)[None].float()

    laid_out = grid.as_map(tokens)

    assert laid_out.shape == (1, 2, 2, 3)
    assert laid_out[0, 0].tolist() == [[1, 2, 3], [4, 5, 6]]
    assert laid_out[0, 1].tolist() == [[10, 20, 30], [40, 50, 60]]


def test_the_map_lies_as_the_embedding_of_patches_put_it():
    image = torch.zeros(1, 1, 8, 12, 16)
    image[0, 0, 4:8, 8:12, 0:4] = 1
    embedding = torch.nn.Conv3d(1, 1, 4, stride=4)
    tokens = embedding(image).flatten(2).transpose(1, 2)

    laid_out = token_grid(24, (8, 12, 16)).as_map(tokens)

    assert torch.equal(laid_out, embedding(image))


@pytest.mark.parametrize("shape", [(1, 6, 2), (1, 8, 2), (7, 2)])
def test_another_number_of_tokens_than_the_grid_has_is_refused(shape):
    with pytest.raises(UnsuitableLayerError, match=r"expected \[B, 7, K\]"):
        TokenGrid(extents=(2, 3), leading=1).as_map(torch.zeros(shape))
