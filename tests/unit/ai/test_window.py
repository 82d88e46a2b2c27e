"""What a network with sliding windows sees of a structure, and where that lies in the whole."""

import numpy as np
import torch

from ai.model import Prepared
from ai.window import view_around
from tests.build_bundles import make_volume


def prepared_of(shape, window):
    tensor = torch.arange(float(np.prod(shape))).reshape(1, 1, *shape)
    volume = make_volume(np.zeros((1, 1, 1), np.float32))
    return Prepared(
        tensor=tensor, affine=None, source_from_prepared=np.eye(4), source=volume, window=window
    )


def test_network_without_windows_sees_all():
    prepared = prepared_of((4, 5, 6), None)

    view = view_around(prepared, None)

    assert view.is_whole
    assert view.tensor is prepared.tensor
    assert torch.equal(view.spread(view.tensor[0]), prepared.tensor[0])


def test_window_lies_around_the_structure_and_inside_the_tensor():
    prepared = prepared_of((10, 10, 10), (4, 4, 4))
    mask = torch.zeros(10, 10, 10, dtype=torch.bool)
    mask[9, 5, 0] = True

    view = view_around(prepared, mask)

    assert view.start == (6, 3, 0)
    assert not view.is_whole
    assert torch.nonzero(view.seen(mask)).tolist() == [[3, 2, 0]]
    spread = view.spread(view.tensor[0])
    assert spread[0, 9, 5, 0] == prepared.tensor[0, 0, 9, 5, 0]
    assert int((spread != 0).sum()) == 4**3


def test_window_larger_than_the_tensor_is_filled_with_zeros():
    prepared = prepared_of((3, 3, 10), (4, 4, 4))
    mask = torch.ones(3, 3, 10, dtype=torch.bool)

    view = view_around(prepared, mask)

    assert view.tensor.shape == (1, 1, 4, 4, 4)
    assert not view.is_whole
    assert int(view.seen(mask).sum()) == 3 * 3 * 4
    assert view.spread(view.tensor[0]).shape == (1, 3, 3, 10)


def test_window_of_a_structure_in_two_halves_lies_around_one_of_them():
    prepared = prepared_of((20, 10, 10), (4, 4, 4))
    mask = torch.zeros(20, 10, 10, dtype=torch.bool)
    mask[1, 5, 5] = mask[18, 5, 5] = True

    view = view_around(prepared, mask)

    assert int(view.seen(mask).sum()) == 1


def test_window_of_a_structure_without_voxels_is_the_middle():
    prepared = prepared_of((10, 10, 10), (4, 4, 4))

    view = view_around(prepared, torch.zeros(10, 10, 10, dtype=torch.bool))

    assert view.start == (3, 3, 3)
