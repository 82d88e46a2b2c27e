import numpy as np
import pytest
import torch
from torch import nn

from ai.capture import fingerprint
from ai.errors import MeasureError
from ai.explainers.cam import LayerCAM
from ai.explainers.saliency import Saliency
from ai.quality.complexity import histogram_entropy
from ai.quality.controls import intensity_map, random_map, sobel_map
from ai.quality.randomization import emprt, forgetting, randomized, smprt
from ai.targets import ClassLogit
from tests.build_networks import Linear, LinearAfterIdentity, classifier, image


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def of_image(control):
    """A method that knows the image and not the network."""

    def explain(_network, x):
        maps = [control(entry.sum(dim=0).numpy()) for entry in x]
        return torch.from_numpy(np.stack(maps))[:, None]

    return explain


CONTROLS = {
    "random": of_image(lambda entry: random_map(entry.shape, np.random.default_rng(3))),
    "sobel": of_image(sobel_map),
    "intensity": of_image(intensity_map),
}


def weights_times_input(network, x):
    return network.weight.detach() * x


@pytest.mark.parametrize("control", CONTROLS)
@pytest.mark.parametrize("axes", [2, 3])
def test_a_control_is_exposed_it_does_not_change_with_the_network(control, axes):
    network, x = classifier(axes=axes), image(2, 1, *[16] * axes)

    rise = emprt(CONTROLS[control], network, x, generator=seeded())
    alike = smprt(CONTROLS[control], network, x, generator=seeded(), samples=2, stages=3)

    assert rise.tolist() == [0.0, 0.0]
    assert alike.tolist() == pytest.approx([1.0, 1.0])


def test_a_method_that_looks_at_the_network_is_not_exposed():
    network, x = classifier(), image(1, 1, 48, 48)

    for method in (LayerCAM(), Saliency()):
        alike = smprt(
            lambda network, x, method=method: method.explain(network, x, ClassLogit(1)).values,
            network,
            x,
            generator=seeded(),
            samples=2,
            stages=2,
        )
        assert alike.item() < 0.9


def test_the_map_of_a_network_that_learned_a_spot_becomes_more_complex():
    weight = torch.zeros(1, 1, 20, 20)
    weight[0, 0, 3:6, 7:10] = 1.0
    network, x = Linear(weight).eval(), torch.ones(1, 1, 20, 20)

    rise = emprt(weights_times_input, network, x, generator=seeded(), draws=1)

    before = histogram_entropy(weight)
    # The network without knowledge has normal weights, drawn first from the seed.
    after = histogram_entropy(torch.randn(1, 1, 20, 20, generator=seeded()))
    assert rise.item() == pytest.approx(((after - before) / before).item(), rel=1e-2)
    assert rise.item() > 10


def test_a_network_of_which_the_map_is_even_says_nothing():
    network, x = LinearAfterIdentity(torch.ones(1, 1, 4, 4)).eval(), image(1, 1, 4, 4)
    learned = network.head.weight.clone()

    def explain(asked, x):
        return x if torch.equal(asked.head.weight, learned) else torch.zeros_like(x)

    assert emprt(explain, network, x, generator=seeded()).isnan().all()
    assert emprt(lambda _n, x: x * 0, network, x, generator=seeded()).isnan().all()


def test_forgetting_goes_from_the_first_layer_to_the_last_and_adds_up():
    torch.manual_seed(0)
    network = nn.Sequential(*(nn.Linear(4, 4) for _ in range(5))).eval()
    learned, forgotten = [layer.weight.clone() for layer in network], []

    def explain(asked, x):
        forgotten.append(
            [not torch.equal(a.weight, b) for a, b in zip(asked, learned, strict=True)]
        )
        return asked[0].weight.view(1, 1, 4, 4).expand_as(x).detach()

    curve = forgetting(explain, network, image(1, 1, 4, 4), generator=seeded(), samples=1, stages=3)

    assert curve.modules == ("1", "3", "4")
    assert [sum(each) for each in forgotten] == [0, 2, 4, 5]
    # The first layer is drawn once, so that the map that shows it changes once.
    assert curve.similarity.shape == (1, 3)
    assert len(set(curve.similarity[0].tolist())) == 1
    assert curve.similarity[0, 0].item() < 0.9


def test_so_many_explanations_are_made():
    network, x, made = classifier(), image(1, 1, 16, 16), []

    def explain(_network, x):
        made.append(x)
        return x

    emprt(explain, network, x, generator=seeded(), draws=2)
    smprt(explain, network, x, generator=seeded(), samples=3, stages=4)

    assert len(made) == (2 + 1) + 3 * (4 + 1)


def test_the_original_is_left_as_it_is_and_the_copy_shares_no_weight():
    network = classifier()
    before = fingerprint(network)

    stranger = randomized(network, generator=seeded())

    assert fingerprint(network) == before
    for (name, weight), fresh in zip(
        network.named_parameters(), stranger.parameters(), strict=True
    ):
        assert weight.data_ptr() != fresh.data_ptr()
        zero = not weight.any()
        assert torch.equal(weight, fresh) == zero, name


def test_weights_keep_their_size_and_lose_their_signs():
    network = nn.Conv3d(8, 8, 5)
    network.weight.data.abs_()

    fresh = randomized(network, generator=seeded()).weight

    assert fresh.square().mean().item() == pytest.approx(
        network.weight.square().mean().item(), rel=0.05
    )
    assert (fresh > 0).float().mean().item() == pytest.approx(0.5, abs=0.02)


def test_the_same_seed_draws_the_same_network():
    network, x = classifier(), image(1, 1, 16, 16)

    first, again, other = (randomized(network, generator=seeded(seed))(x) for seed in (0, 0, 1))

    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_weights_that_are_one_tensor_remain_one():
    network = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    network[1].weight = network[0].weight

    stranger = randomized(network, generator=seeded())

    assert torch.equal(stranger[0].weight, stranger[1].weight)
    assert not torch.equal(stranger[0].weight, network[0].weight)


class Recurrent(nn.Module):
    """Reads the rows of an image one after the other."""

    def __init__(self):
        super().__init__()
        self.rows = nn.LSTM(4, 3, batch_first=True)

    def forward(self, x):
        return self.rows(x[:, 0])[0][:, -1]


class Compiled(nn.Module):
    """What ``torch.compile`` returns: runs its original, whatever weights a copy of it has."""

    def __init__(self, original):
        super().__init__()
        self._orig_mod = original
        object.__setattr__(self, "graph", original)

    def forward(self, x):
        return self.graph(x)


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
@pytest.mark.parametrize("kind", ["recurrent", "scripted", "partly scripted", "compiled"])
def test_networks_that_hold_their_weights_elsewhere_forget_too(kind):
    torch.manual_seed(0)
    x, plain = image(1, 1, 4, 4), nn.Sequential(nn.Flatten(), nn.Linear(16, 3)).eval()
    network = {
        "recurrent": lambda: Recurrent().eval(),
        "scripted": lambda: torch.jit.trace(plain, x),
        "partly scripted": lambda: nn.Sequential(torch.jit.trace(plain, x), nn.ReLU()).eval(),
        "compiled": lambda: Compiled(plain).eval(),
    }[kind]()
    before = network(x)

    stranger = randomized(network, generator=seeded())

    assert not torch.allclose(stranger(x), before, atol=1e-3)
    assert torch.equal(network(x), before)


def test_weights_made_in_inference_mode_are_drawn_as_well():
    with torch.inference_mode():
        network, x = nn.Linear(4, 2).eval(), image(1, 4)
        stranger = randomized(network, generator=seeded())

        assert not torch.equal(stranger(x), network(x))
    assert not next(stranger.parameters()).is_inference()


def test_a_network_without_weights_is_refused():
    with pytest.raises(MeasureError, match="no weights"):
        emprt(CONTROLS["sobel"], nn.ReLU().eval(), image(1, 1, 8, 8), generator=seeded())


@pytest.mark.parametrize(
    "measured",
    [
        lambda *given: emprt(*given, generator=seeded(), draws=0),
        lambda *given: smprt(*given, generator=seeded(), samples=0),
        lambda *given: smprt(*given, generator=seeded(), stages=0),
    ],
)
def test_nothing_to_draw_is_refused(measured):
    with pytest.raises(MeasureError, match="expected at least 1"):
        measured(CONTROLS["sobel"], classifier(), image(1, 1, 8, 8))


def test_a_module_without_weights_is_refused():
    with pytest.raises(MeasureError, match="is a module with weights"):
        randomized(classifier(), generator=seeded(), modules=["2"])


def test_there_are_no_more_stages_than_modules():
    network = Linear(torch.ones(1, 1, 4, 4)).eval()

    curve = forgetting(weights_times_input, network, image(1, 1, 4, 4), generator=seeded())

    assert curve.similarity.shape == (1, 1)
    assert curve.modules == ("",)


def test_a_map_of_another_grid_is_refused():
    with pytest.raises(MeasureError, match="on one grid"):
        emprt(lambda _n, x: x[..., :4], classifier(), image(1, 1, 8, 8), generator=seeded())
