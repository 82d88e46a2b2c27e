import pytest
import torch

from ai.quality.integrity import measure, problems
from tests.build_networks import image

X = image(1, 2, 4, 5)


@pytest.mark.parametrize("channels", [1, 2])
def test_a_sound_attribution_measures_one(channels):
    assert measure(image(1, channels, 4, 5), X, before="a", after="a") == 1.0


@pytest.mark.parametrize(
    ("values", "after", "problem"),
    [
        (torch.full((1, 1, 4, 5), float("nan")), "a", "20 of its 20 values are not finite"),
        (torch.zeros(1, 1, 4, 5), "a", "the same everywhere"),
        (image(1, 1, 4, 4), "a", r"shape (1, 1, 4, 4) does not fit the input (1, 2, 4, 5)"),
        (image(1, 3, 4, 5), "a", "does not fit"),
        (image(2, 1, 4, 5), "a", "does not fit"),
        (image(1, 1, 4, 5), "b", "the network was changed"),
    ],
    ids=["NaN", "constant", "grid", "channels", "batch", "network"],
)
def test_each_flaw_is_named_and_measures_zero(values, after, problem):
    found = problems(values, X, before="a", after=after)

    assert len(found) == 1
    assert problem in found[0]
    assert measure(values, X, before="a", after=after) == 0.0


def test_one_constant_entry_of_a_batch_is_enough():
    values = image(2, 1, 4, 5)
    values[1] = 3.0

    assert problems(values, image(2, 1, 4, 5), before="a", after="a") == (
        "it is the same everywhere",
    )
