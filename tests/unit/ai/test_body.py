"""The body in an image: found by the corners, whole, and only where there is air around it."""

import numpy as np
import pytest
import torch

from ai.body import body_mask, body_of
from tests.build_networks import image
from tests.unit.ai.test_supervoxels import ball, photographed


@pytest.mark.parametrize(("inside", "outside"), [(0.0, 1.0), (0.0, 0.5)], ids=["white", "middle"])
def test_air_is_found_by_the_corners_and_not_by_its_brightness(inside, outside):
    body = ball((48, 48), (24, 24), 15)
    x = photographed(body, inside=inside, outside=outside)
    if outside == 0.5:
        # As after z-scoring inside a skull-stripped brain: air is one value amid the others.
        x[0, 0, body] += image(int(body.sum()))
        x[0, 0, ~body] = outside

    found = body_of(x[0].numpy(), least_share=0.1)

    assert np.mean(found == body) > 0.999


def test_lungs_are_body_though_they_open_to_the_outside():
    extents = (20, 40, 40)
    trunk = np.broadcast_to(ball(extents[1:], (20, 20), 16), extents)
    lung = np.broadcast_to(ball(extents[1:], (20, 14), 5), extents)

    found = body_of(photographed(trunk & ~lung)[0].numpy(), least_share=0.1)

    assert np.array_equal(found, trunk)


@pytest.mark.parametrize(
    "x",
    [image(1, 1, 40, 40), photographed(ball((40, 40), (20, 20), 3)), torch.ones(1, 1, 40, 40)],
    ids=["noise", "spot", "even"],
)
def test_where_it_is_in_doubt_all_is_body(x):
    assert body_of(x[0].numpy(), least_share=0.1).all()


def test_the_mask_of_a_large_image_lies_on_its_own_grid():
    body = ball((1000, 800), (500, 400), 300)

    found = body_mask(photographed(body))

    assert found.shape == (1000, 800)
    assert np.mean(found.numpy() == body) > 0.99


def test_an_image_without_air_has_no_mask():
    assert body_mask(image(1, 1, 40, 40)) is None
