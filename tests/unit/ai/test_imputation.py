import itertools

import numpy as np
import pytest
import torch

from ai.errors import MeasureError
from ai.quality.imputation import filled
from tests.build_networks import image


def solved_directly(values, removed):
    """The paper's linear system as a dense matrix: each removed cell is its neighbors' mean."""
    places = {tuple(place): index for index, place in enumerate(np.argwhere(removed))}
    matrix, known = np.zeros((len(places), len(places))), np.zeros(len(places))
    for place, row in places.items():
        for step in itertools.product((-1, 0, 1), repeat=removed.ndim):
            neighbor = tuple(np.add(place, step))
            inside = all(0 <= i < n for i, n in zip(neighbor, removed.shape, strict=True))
            if not any(step) or not inside:
                continue
            weight = 0.5 ** np.count_nonzero(step)
            matrix[row, row] += weight
            if removed[neighbor]:
                matrix[row, places[neighbor]] -= weight
            else:
                known[row] += weight * values[neighbor]
    solution = values.copy()
    solution[removed] = np.linalg.solve(matrix, known)
    return solution


@pytest.mark.parametrize("shape", [(40,), (16, 15), (9, 8, 7)])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_the_filling_solves_the_linear_system(shape, share):
    values = image(2, *shape)
    removed = torch.rand(shape, generator=torch.Generator().manual_seed(1)) < share

    solution = filled(values, removed)

    for channel, expected in zip(solution, values.double().numpy(), strict=True):
        assert channel.numpy() == pytest.approx(
            solved_directly(expected, removed.numpy()), abs=2e-3
        )


def test_one_cell_is_filled_by_the_weights_of_the_paper():
    values, removed = image(1, 3, 3), torch.zeros(3, 3, dtype=torch.bool)
    removed[1, 1] = True

    middle = filled(values, removed)[0, 1, 1].item()

    nearest = values[0, [0, 1, 1, 2], [1, 0, 2, 1]].sum()
    diagonal = values[0, [0, 0, 2, 2], [0, 2, 0, 2]].sum()
    assert middle == pytest.approx((nearest / 6 + diagonal / 12).item(), abs=1e-3)


@pytest.mark.parametrize("shape", [(64, 64), (20, 24, 28)])
def test_a_ramp_goes_on_through_a_wide_hole(shape):
    ramp = sum(
        (axis + 1) * torch.arange(float(extent)).view(-1, *[1] * (len(shape) - 1 - axis))
        for axis, extent in enumerate(shape)
    )
    removed = torch.zeros(shape, dtype=torch.bool)
    removed[tuple(slice(2, extent - 2) for extent in shape)] = True

    solution = filled(ramp[None], removed)[0]

    assert ((solution - ramp).abs().max() / ramp.std()).item() < 0.02


def test_what_was_not_removed_stays_and_the_image_too():
    values, removed = image(1, 12, 12), torch.zeros(12, 12, dtype=torch.bool)
    removed[3:9, 3:9] = True
    before = values.clone()

    solution = filled(values, removed)

    assert torch.equal(values, before)
    assert torch.equal(solution[:, ~removed], values[:, ~removed])
    assert torch.equal(filled(values, torch.zeros_like(removed)), values)


def test_an_even_image_stays_even():
    removed = torch.ones(30, 30, dtype=torch.bool)
    removed[0, 0] = False

    assert filled(torch.full((1, 30, 30), 7.0), removed).numpy() == pytest.approx(7.0, abs=1e-4)


def test_an_image_without_known_cells_is_refused():
    with pytest.raises(MeasureError, match="all 16 cells are removed"):
        filled(image(1, 4, 4), torch.ones(4, 4, dtype=torch.bool))
