"""The phantom network with a second class: grain, found by layers of its own on a shared stem."""

import copy
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from torch import Tensor, nn
from torch.nn import functional

from ai.model import Prepared
from ai.models.phantom import PhantomModel
from ai.phantom.inserts import Kind
from ai.phantom.make import make_phantom
from ai.phantom.network import STRIDE, PhantomNetwork, detail
from ai.reliability.discrimination import area_under_curve
from ai.resample import resample_linear
from ai.targets import ClassLogit

LESION, GRAIN = ClassLogit(0), ClassLogit(1)
#: Seeds of the phantoms that it is trained on, and of those that it is tried on.
_TRAINED = range(950_000, 950_240)
_TRIED = range(960_000, 960_060)
_STEPS, _BATCH, _RATE, _DECAY, _WARM_UP = 400, 4, 2e-3, 1e-2, 0.1
#: A place counts as grain (or lesion) from this filling on, as neither below the other.
_FILLED, _EMPTY = 0.4, 0.1
_EMPTY_WEIGHT = 4.0
#: Starting value of every place's evidence, as of the phantom network's own.
_PRIOR = -4.0


class TwoClasses(nn.Module):
    """Logits [B, 2], of lesion and of grain, each of features that no other class reads.

    Stem, middle and all that is the lesion's are the phantom network's, unchanged.
    """

    area_under_curve: Tensor
    found_in_place: Tensor

    def __init__(self, network: PhantomNetwork) -> None:
        super().__init__()
        self.network = network
        self.context = copy.deepcopy(network.context)
        self.own_features = copy.deepcopy(network.features)
        self.grain = nn.Conv3d(network.head.in_channels, 1, kernel_size=1)
        nn.init.zeros_(self.grain.weight)
        nn.init.constant_(cast("Tensor", self.grain.bias), _PRIOR)
        #: The features of both, side by side: what class activation maps look at.
        self.features = nn.Identity()
        #: Of grain, on phantoms that it was not trained on; and how often its strongest place is
        #: a grain, where there is one.
        self.register_buffer("area_under_curve", torch.zeros(()))
        self.register_buffer("found_in_place", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        middle = self.middle(x)
        of_lesion = self.network.features(self.network.context(middle))
        both = self.features(torch.cat((of_lesion, self.own_features(self.context(middle))), dim=1))
        of_lesion, of_grain = both.chunk(2, dim=1)
        evidence = torch.cat((self.network.head(of_lesion), self.grain(of_grain)), dim=1)
        return torch.logsumexp(evidence.flatten(2), dim=2)

    def middle(self, x: Tensor) -> Tensor:
        return cast("Tensor", self.network.middle(self.network.stem(detail(x))))

    def grain_evidence(self, middle: Tensor) -> Tensor:
        return cast("Tensor", self.grain(self.own_features(self.context(middle))))


def with_second_class(model: PhantomModel, work: Path) -> TwoClasses:
    """Return the model's network with the second class, trained now or earlier."""
    network = TwoClasses(cast("PhantomNetwork", model.network))
    file = work / "second-class.pt"
    if file.exists():
        network.load_state_dict(torch.load(file, weights_only=True))
    else:
        _train(network, model)
        work.mkdir(parents=True, exist_ok=True)
        torch.save(network.state_dict(), file)
    return network.eval().requires_grad_(requires_grad=False)


def _train(network: TwoClasses, model: PhantomModel) -> None:
    middles, lesions, grains = _examples(network, model, _TRAINED, "phantoms with grain")
    layers = (network.context, network.own_features, network.grain)
    weights = [weight for layer in layers for weight in layer.parameters()]
    for weight in weights:
        weight.requires_grad_(requires_grad=True)
    optimizer = torch.optim.AdamW(weights, lr=_RATE, weight_decay=_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, _RATE, total_steps=_STEPS, pct_start=_WARM_UP
    )
    rng = np.random.default_rng(0)
    for _ in track(range(_STEPS), description="training grain", console=Console(stderr=True)):
        drawn = torch.from_numpy(rng.choice(len(middles), _BATCH))
        evidence = network.grain_evidence(middles[drawn])
        optimizer.zero_grad()
        torch.autograd.backward(_loss(evidence, lesions[drawn], grains[drawn]))
        optimizer.step()
        schedule.step()
    network.eval()
    _try(network, model)


def _loss(evidence: Tensor, lesions: Tensor, grains: Tensor) -> Tensor:
    """Return the cross-entropy of images and of places: those of grain, of lesion, of neither."""
    grain, lesion = (filling > _FILLED for filling in (grains, lesions))
    of_places = functional.binary_cross_entropy_with_logits(
        evidence, grain.to(evidence), reduction="none"
    )
    shares = ((grain, 1.0), (lesion, 1.0), (grains < _EMPTY, _EMPTY_WEIGHT))
    of_images = functional.binary_cross_entropy_with_logits(
        torch.logsumexp(evidence.flatten(1), dim=1), grain.flatten(1).any(dim=1).to(evidence)
    )
    places = [weight * (of_places * on).sum() / (on.sum() + 1) for on, weight in shares]
    return of_images + torch.stack(places).sum()


@torch.no_grad()
def _try(network: TwoClasses, model: PhantomModel) -> None:
    middles, _, grains = _examples(network, model, _TRIED, "trying grain")
    places = torch.cat([network.grain_evidence(each[None]).flatten(1) for each in middles])
    filled = grains.flatten(1)
    there = filled.amax(dim=1) > _FILLED
    area = area_under_curve(
        torch.logsumexp(places, dim=1).tolist(), np.asarray(there.numpy(), np.bool_)
    )
    strongest = filled.gather(1, places.argmax(dim=1, keepdim=True))[:, 0]
    network.area_under_curve.fill_(area)
    network.found_in_place.fill_(float((strongest[there] > _EMPTY).double().mean()))


@torch.no_grad()
def _examples(
    network: TwoClasses, model: PhantomModel, seeds: range, description: str
) -> tuple[Tensor, Tensor, Tensor]:
    """Return middles [N, K, *s], and how much of each place is lesion and grain, [N, 1, *s]."""
    middles, lesions, grains = [], [], []
    network.eval()
    for seed in track(seeds, description=description, console=Console(stderr=True)):
        phantom = make_phantom(seed)
        prepared = model.prepare(phantom.volume)
        middles.append(network.middle(prepared.tensor))
        lesions.append(_filling(phantom.truth, prepared))
        grains.append(_filling(phantom.places.get(Kind.GRAIN), prepared))
    network.context.train()
    network.own_features.train()
    return torch.cat(middles), torch.cat(lesions), torch.cat(grains)


def _filling(place: NDArray[np.bool_] | None, prepared: Prepared) -> Tensor:
    """Return how much of each place of the evidence map a region fills, [1, 1, *s]."""
    shape = prepared.tensor.shape[2:]
    if place is None:
        return torch.zeros((1, 1, *(size // STRIDE for size in shape)))
    filled = resample_linear(
        torch.from_numpy(place.astype(np.float32))[None],
        prepared.source_from_prepared,
        (shape[0], shape[1], shape[2]),
    )
    return functional.avg_pool3d((filled >= _FILLED).float()[None], STRIDE)
