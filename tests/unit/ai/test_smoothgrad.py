import pytest
import torch
from captum.attr import NoiseTunnel
from captum.attr import Saliency as CaptumSaliency
from torch import nn

from ai.errors import BudgetError
from ai.explainers.draws import draws_of
from ai.explainers.smoothgrad import SmoothGrad
from ai.model import Budget, Settings
from ai.targets import ClassLogit
from tests.build_networks import Linear, classifier, image


class Squares(nn.Module):
    """Half the squares, summed: the gradient at x is x."""

    def forward(self, x):
        return x.square().flatten(1).sum(1, keepdim=True) / 2


class Given(NoiseTunnel):
    """captum's tunnel with our noise instead of the global generator's."""

    def __init__(self, method, noise):
        super().__init__(method)
        self._noise = iter(noise)

    def _add_noise_to_input(self, x, stdev, count):
        return x + torch.cat([next(self._noise) for _ in range(count)])


@pytest.mark.parametrize(
    ("form", "expected"),
    [("signed", lambda w: w), ("absolute", torch.abs), ("squared", torch.square)],
)
def test_a_linear_model_gets_its_weights_whatever_the_noise(form, expected):
    weight, x = image(1, 3, 6, 5, seed=1), image(2, 3, 6, 5, seed=2)

    found = SmoothGrad(form=form, samples=4).explain(Linear(weight).eval(), x, ClassLogit(0))

    assert torch.allclose(found.values, expected(weight).expand_as(x), atol=1e-6)
    assert found.residual is None


def test_opposite_noise_cancels_where_the_gradient_changes_linearly():
    x = image(1, 2, 8, 8)

    found = SmoothGrad(form="signed", samples=2, noise=5.0).explain(
        Squares().eval(), x, ClassLogit(0)
    )

    assert torch.allclose(found.values, x, atol=1e-5)


def test_noise_is_a_share_of_the_deviation_of_each_channel():
    x = image(1, 2, 32, 32) * torch.tensor([1.0, 10.0]).view(1, 2, 1, 1)

    found = SmoothGrad(form="squared", samples=32, noise=0.5).explain(
        Squares().eval(), x, ClassLogit(0)
    )

    # The mean of (x + e)^2 over e of deviation s is x^2 + s^2.
    variance = (found.values - x.square()).mean(dim=(0, 2, 3))
    assert variance.sqrt().tolist() == pytest.approx([0.5, 5.0], rel=0.1)


@pytest.mark.parametrize("form", ["signed", "squared"])
def test_it_is_that_of_captum_with_the_same_noise(form):
    network, x = classifier(), image(1, 1, 24, 24)
    generator, noise = draws_of(Settings()).generator(), []
    for _ in range(3):
        drawn = 0.2 * x.std(correction=0) * torch.randn(x.shape, generator=generator)
        noise += [drawn, -drawn]

    ours = SmoothGrad(form=form, samples=6, noise=0.2).explain(network, x, ClassLogit(1)).values

    captum = Given(CaptumSaliency(network), noise).attribute(
        x,
        nt_type="smoothgrad" if form == "signed" else "smoothgrad_sq",
        nt_samples=6,
        target=1,
        abs=False,
    )
    assert (ours - captum).abs().max() <= 1e-5 * captum.abs().max()


def test_the_seed_decides_and_is_told():
    network, x = classifier(), image(1, 1, 24, 24)

    def explained(seed):
        settings = Settings(generator=torch.Generator().manual_seed(seed))
        return SmoothGrad(samples=2).explain(network, x, ClassLogit(1), settings)

    assert explained(7).seed == 7
    assert torch.equal(explained(7).values, explained(7).values)
    assert not torch.equal(explained(7).values, explained(8).values)


def test_the_global_generator_is_left_alone():
    torch.manual_seed(5)
    before = torch.get_rng_state()

    SmoothGrad(samples=2).explain(Squares().eval(), image(1, 1, 8, 8), ClassLogit(0))

    assert torch.equal(torch.get_rng_state(), before)


def test_memory_decides_the_batch_and_not_the_answer():
    network, x = classifier(), image(2, 1, 24, 24)

    roomy = SmoothGrad(samples=8).explain(network, x, ClassLogit(1))
    tight = SmoothGrad(samples=8, memory_bytes=1).explain(network, x, ClassLogit(1))

    assert torch.allclose(roomy.values, tight.values, atol=1e-6)
    assert roomy.cost.forwards == 2 * 9
    assert roomy.cost.backwards == 2 * 8


def test_a_budget_leaves_the_mean_over_fewer_copies():
    network, x = classifier(), image(1, 1, 24, 24)
    settings = Settings(budget=Budget(forwards=5))

    found = SmoothGrad(samples=8).explain(network, x, ClassLogit(1), settings)

    assert found.warnings == ("the mean over 4 of 8 noisy copies",)
    assert torch.allclose(
        found.values, SmoothGrad(samples=4).explain(network, x, ClassLogit(1)).values, atol=1e-7
    )


def test_cancelling_leaves_the_mean_over_fewer_copies():
    spent = []
    settings = Settings(
        budget=Budget(
            report=lambda done, total: spent.append((done, total)),
            cancelled=lambda: len(spent) >= 4,
        )
    )

    found = SmoothGrad(samples=8, memory_bytes=1).explain(
        classifier(), image(1, 1, 24, 24), ClassLogit(1), settings
    )

    assert found.warnings == ("the mean over 3 of 8 noisy copies",)
    assert spent[-1] == (4, 4)


def test_a_budget_below_one_pair_is_refused():
    with pytest.raises(BudgetError, match="needs at least 3 forward passes, the budget has 2"):
        SmoothGrad().explain(
            classifier(), image(1, 1, 24, 24), ClassLogit(1), Settings(budget=Budget(forwards=2))
        )


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"samples": 7}, "samples is 7, expected an even number"),
        ({"samples": 0}, "samples is 0"),
        ({"noise": 0.0}, "noise is 0.0, expected a share above 0"),
        ({"form": "square"}, "form 'square' is not known; expected one of absolute, signed"),
    ],
)
def test_parameters_that_mean_nothing_are_refused(parameters, message):
    with pytest.raises(ValueError, match=message):
        SmoothGrad(**parameters)
