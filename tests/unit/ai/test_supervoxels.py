import numpy as np
import pytest
import torch
from scipy import ndimage
from skimage import data, segmentation

from ai.explainers.supervoxels import supervoxels_of
from tests.build_networks import image


def connected(labels):
    return [int(ndimage.label(labels == each)[1]) for each in range(int(labels.max()) + 1)]


def purity(labels, truth):
    """Return the share of voxels that lie on the side of the truth that most of their piece do."""
    table = np.zeros((labels.max() + 1, truth.max() + 1))
    np.add.at(table, (labels.ravel(), truth.ravel()), 1)
    return table.max(axis=1).sum() / truth.size


def ball(extents, middle, radius):
    away = [np.arange(extent) - at for extent, at in zip(extents, middle, strict=True)]
    return sum(np.square(each) for each in np.ix_(*away)) <= radius**2


def photographed(body, *, inside=1.0, outside=0.0, noise=0.02, seed=0):
    rng = np.random.default_rng(seed)
    picture = np.where(body, inside, outside) + noise * rng.standard_normal(body.shape)
    return torch.from_numpy(picture[None, None].astype(np.float32))


@pytest.mark.parametrize(
    ("shape", "count"),
    [
        ((1, 1, 64), 16),
        ((1, 3, 60, 44), 50),
        ((1, 1, 20, 28, 24), 64),
        ((1, 1, 64, 64, 3), 40),
        ((1, 1, 1, 4), 3),
    ],
)
def test_every_voxel_belongs_to_one_of_at_most_so_many_connected_pieces(shape, count):
    labels = supervoxels_of(image(*shape), count).numpy()

    assert labels.shape == shape[2:]
    assert sorted(set(labels.ravel())) == list(range(labels.max() + 1))
    assert 0.6 * count <= labels.max() + 1 <= count
    assert connected(labels) == [1] * (labels.max() + 1)


def test_the_same_image_is_cut_in_the_same_way():
    x = image(1, 1, 24, 24, 24)

    assert torch.equal(supervoxels_of(x, 30), supervoxels_of(x.clone(), 30))


def test_an_even_image_is_cut_into_a_grid():
    labels = supervoxels_of(torch.zeros(1, 1, 30, 30), 9)

    rows = torch.arange(30) // 10
    assert torch.equal(labels, rows[:, None] * 3 + rows)


def test_pieces_keep_to_an_edge_that_only_one_channel_shows():
    x = 0.1 * image(1, 2, 48, 48)
    truth = (np.add.outer(np.arange(48), np.arange(48)) > 50).astype(int)
    x[0, 1] += torch.from_numpy(truth)

    labels = supervoxels_of(x, 30).numpy()

    assert purity(labels, truth) > 0.98


def test_pieces_keep_to_edges_as_those_of_scikit_image_do():
    blobs = data.binary_blobs(96, blob_size_fraction=0.2, rng=0)
    x = photographed(blobs, noise=0.1)

    ours = supervoxels_of(x, 50).numpy()
    theirs = segmentation.slic(
        x[0, 0].numpy(), n_segments=50, channel_axis=None, sigma=1, compactness=0.5, start_label=0
    )

    truth = blobs.astype(int)
    assert purity(ours, truth) > purity(theirs, truth) - 0.01
    assert purity(ours, truth) > 0.97


def test_a_large_image_is_cut_up_on_a_reduced_grid():
    x = image(1, 1, 1024, 768)

    labels = supervoxels_of(x, 50).numpy()

    assert labels.shape == (1024, 768)
    assert connected(labels) == [1] * (labels.max() + 1)


def test_the_air_around_a_body_is_the_last_piece():
    body = ball((24, 28, 26), (11, 13, 12), 9)

    labels = supervoxels_of(photographed(body), 30).numpy()

    assert np.array_equal(labels == labels.max(), ~body)
    assert labels.max() + 1 > 20


def test_two_legs_are_two_bodies_and_a_cable_is_air():
    left, right = ball((48, 64), (24, 16), 11), ball((48, 64), (24, 48), 11)
    cable = ball((48, 64), (44, 32), 2)

    labels = supervoxels_of(photographed(left | right | cable), 20).numpy()

    air = labels.max()
    assert np.array_equal(labels == air, ~(left | right))
    assert not set(labels[left]) & set(labels[right])
