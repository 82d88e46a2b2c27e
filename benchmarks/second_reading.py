"""A second class for the phantom network: it reads grain from the features made for lesions."""

from pathlib import Path
from typing import cast

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor, nn
from torch.nn import functional

from ai.models.phantom import PhantomModel
from ai.phantom.inserts import Kind
from ai.phantom.make import make_phantom
from ai.phantom.network import PhantomNetwork, detail
from ai.reliability.discrimination import area_under_curve
from ai.targets import ClassLogit

LESION, GRAIN = ClassLogit(0), ClassLogit(1)
#: Seeds of the phantoms that it is fitted to, and of those that it is tried on.
_FITTED = range(950_000, 950_120)
_TRIED = range(960_000, 960_060)
_STEPS, _RATE, _DECAY = 400, 0.05, 1e-3
#: Starting value of every place's evidence, as of the phantom network's own.
_PRIOR = -4.0


class TwoReadings(nn.Module):
    """The phantom network with a second evidence map: logits [B, 2], of lesion and of grain."""

    area_under_curve: Tensor

    def __init__(self, network: PhantomNetwork) -> None:
        super().__init__()
        self.network = network
        self.grain = nn.Conv3d(network.head.in_channels, 1, kernel_size=1)
        nn.init.zeros_(self.grain.weight)
        nn.init.constant_(cast("Tensor", self.grain.bias), _PRIOR)
        #: Of the second reading, on phantoms that it was not fitted to.
        self.register_buffer("area_under_curve", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        features = self.features(x)
        evidence = torch.cat((self.network.head(features), self.grain(features)), dim=1)
        return torch.logsumexp(evidence.flatten(2), dim=2)

    def features(self, x: Tensor) -> Tensor:
        network = self.network
        middle = network.middle(network.stem(detail(x)))
        return cast("Tensor", network.features(network.context(middle)))


def with_second_reading(model: PhantomModel, work: Path) -> TwoReadings:
    """Return the model's network with the second reading, fitted now or earlier."""
    network = TwoReadings(cast("PhantomNetwork", model.network))
    file = work / "second-reading.pt"
    if file.exists():
        network.load_state_dict(torch.load(file, weights_only=True))
    else:
        _fit(network, model)
        work.mkdir(parents=True, exist_ok=True)
        torch.save(network.state_dict(), file)
    return network.eval().requires_grad_(requires_grad=False)


def _fit(network: TwoReadings, model: PhantomModel) -> None:
    maps, labels = _examples(network, model, _FITTED, "fitting grain")
    optimizer = torch.optim.Adam(network.grain.parameters(), lr=_RATE, weight_decay=_DECAY)
    for _ in range(_STEPS):
        logits = torch.logsumexp(network.grain(maps).flatten(1), dim=1)
        optimizer.zero_grad()
        torch.autograd.backward(functional.binary_cross_entropy_with_logits(logits, labels))
        optimizer.step()
    maps, labels = _examples(network, model, _TRIED, "trying grain")
    with torch.no_grad():
        logits = torch.logsumexp(network.grain(maps).flatten(1), dim=1)
    area = area_under_curve(logits.tolist(), np.asarray(labels.numpy(), np.bool_))
    network.area_under_curve.fill_(area)


@torch.no_grad()
def _examples(
    network: TwoReadings, model: PhantomModel, seeds: range, description: str
) -> tuple[Tensor, Tensor]:
    """Return features [N, K, *s] and whether there is grain, float [N]."""
    maps, labels = [], []
    for seed in track(seeds, description=description, console=Console(stderr=True)):
        phantom = make_phantom(seed)
        maps.append(network.features(model.prepare(phantom.volume).tensor))
        labels.append(float(Kind.GRAIN in phantom.description))
    return torch.cat(maps), torch.tensor(labels)
