"""Two networks on one backbone, and how both learn whether there is a lesion.

The backbone gives a map of 8 mm. The *black box* goes on: it halves the map twice, pools it by mean
and maximum, and decides in a hidden layer. The *evidence* network lets each place vote, and the
votes are its decision. Both see the same images in the same order, small blocks of heads at first
and whole heads at last, and are told one thing of each: lesion or none. With annotated heads, the
evidence network is also shown the outline in these.
"""

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from monai.networks.blocks.convolutions import Convolution
from rich.progress import Progress
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import AdamW
from torch.optim.lr_scheduler import OneCycleLR

from ai.hybrids.evidence import EvidenceHead
from ai.phantom.examples import random_batch, store_example, whole_example
from ai.phantom.network import STRIDE, detail

#: Seeds of the training phantoms begin here, far from any that were measured or chosen by.
FIRST_TRAINING_SEED = 2_000_000
_CHANNELS = 32
_SHARPNESS = 2.0
_LEARNING_RATE = 2e-3
_WARM_UP_SHARE = 0.1
_WEIGHT_DECAY = 1e-2
#: How much the share of relevance inside the outlines counts beside the decision.
_RELEVANCE_WEIGHT = 1.0
#: A place of the map belongs to the lesion if it is filled to this part.
_FILLED = 0.4
_STEPS_PER_CHECKPOINT = 50
#: Up to which part of the steps, how many images of how many voxels along each axis: blocks of 32
#: and of 64 mm, and whole heads. In a larger image a lesion is a smaller part.
_LESSONS = ((0.4, 64, 16), (0.85, 16, 32), (1.0, 3, None))
#: Of the images of a step, those that are taken from annotated heads, where there are any.
_OUTLINED_SHARE = 0.25


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is trained; a checkpoint of another plan is refused."""

    cases: int
    steps: int
    seed: int


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One network of the comparison."""

    name: str
    #: Whether its map is its decision.
    hybrid: bool
    #: Training heads whose lesion is outlined for it.
    annotated: int = 0


def arms(annotated: Sequence[int]) -> tuple[Arm, ...]:
    """Return the black box, the evidence network, and one more for each number of outlines."""
    taught = (
        Arm(name=f"evidence, {count} outlined", hybrid=True, annotated=count) for count in annotated
    )
    return (Arm(name="black box", hybrid=False), Arm(name="evidence", hybrid=True), *taught)


class Detail(nn.Module):
    """What is brighter or darker than its surroundings, as the phantom model sees a head."""

    def forward(self, x: Tensor) -> Tensor:
        return detail(x)


class Widest(nn.Module):
    """Mean and maximum of each channel over space, [B, 2 K]."""

    def forward(self, features: Tensor) -> Tensor:
        places = features.flatten(2)
        return torch.cat((places.mean(dim=2), places.amax(dim=2)), dim=1)


def backbone() -> nn.Sequential:
    """Return four stages of which two are strided; even kernels keep their places over theirs."""
    return nn.Sequential(
        Detail(),
        _stage(1, 16, kernel_size=6, strides=2, padding=2),
        _stage(16, _CHANNELS, kernel_size=4, strides=2, padding=1),
        _stage(_CHANNELS, _CHANNELS),
        _stage(_CHANNELS, _CHANNELS),
    )


def network_of(arm: Arm, seed: int) -> nn.Sequential:
    """Return the untrained network of an arm; the backbones of one seed are the same."""
    torch.manual_seed(seed)
    shared = backbone()
    if arm.hybrid:
        head = EvidenceHead(_CHANNELS, 1, spatial_dims=3, sharpness=_SHARPNESS)
        return nn.Sequential(*shared, head)
    return nn.Sequential(
        *shared,
        _stage(_CHANNELS, 64, kernel_size=4, strides=2, padding=1),
        _stage(64, 64, kernel_size=4, strides=2, padding=1),
        Widest(),
        nn.Linear(128, 32),
        nn.ReLU(),
        nn.Linear(32, 1),
    )


def make_cases(count: int, folder: Path, pool: Executor, progress: Progress) -> dict[int, bool]:
    """Write the training heads that are not there yet; return which seed has a lesion."""
    folder.mkdir(parents=True, exist_ok=True)
    seeds = range(FIRST_TRAINING_SEED, FIRST_TRAINING_SEED + count)
    made = pool.map(_made, seeds, [folder] * count)
    return dict(zip(seeds, progress.track(made, total=count, description="heads"), strict=True))


def train(
    arm: Arm,
    plan: Plan,
    lesions: dict[int, bool],
    *,
    work: Path,
    progress: Progress,
    device: str = "cpu",
    until: int | None = None,
) -> nn.Sequential:
    """Return the trained network of an arm; goes on from its last checkpoint, if there is one.

    Parameters
    ----------
    lesions
        Which of the heads in ``work / "heads"`` has a lesion, by seed.
    until
        A step, for a part of the plan.
    """
    network = network_of(arm, plan.seed).to(device)
    optimizer = AdamW(network.parameters(), lr=_LEARNING_RATE, weight_decay=_WEIGHT_DECAY)
    schedule = OneCycleLR(
        optimizer, _LEARNING_RATE, total_steps=plan.steps, pct_start=_WARM_UP_SHARE
    )
    parts = {"network": network, "optimizer": optimizer, "schedule": schedule}
    file = work / f"{arm.name.replace(', ', '-').replace(' ', '-')}.pt"
    done, last = _resumed(file, parts, plan), plan.steps if until is None else until
    task = progress.add_task(arm.name, total=last, completed=done)
    for step in range(done, last):
        _learn(parts, *batch(arm, plan, lesions, work / "heads", step), device)
        progress.advance(task)
        if (step + 1) % _STEPS_PER_CHECKPOINT == 0 or step + 1 == last:
            _keep(file, parts, plan, step + 1)
    return network.eval()


def batch(
    arm: Arm, plan: Plan, lesions: dict[int, bool], folder: Path, step: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return images [B, 1, *S], the filling of each place [B, 1, *s], and which are outlined [B].

    Arms that are shown no outlines see the same images.
    """
    rng = np.random.default_rng((plan.seed, step))
    count, edge = next(
        (count, edge) for until, count, edge in _LESSONS if step < until * plan.steps
    )
    drawn = rng.choice(list(lesions), count)
    annotated = [seed for seed, has_lesion in lesions.items() if has_lesion][: arm.annotated]
    if annotated:
        shown = max(1, round(_OUTLINED_SHARE * count))
        drawn[:shown] = rng.choice(annotated, shown)
    images, truths = random_batch(drawn, folder, crop=(edge,) * 3 if edge else None, rng=rng)
    outlined = torch.from_numpy(np.isin(drawn, annotated))
    return images, functional.avg_pool3d(truths, STRIDE), outlined


def relevance_outside(evidence: Tensor, inside: Tensor) -> Tensor:
    """Return - log of the share of the decision's weight inside an outline, over those given.

    Parameters
    ----------
    evidence
        [B, 1, *s].
    inside
        bool [B, 1, *s]; an entry without any is not asked.
    """
    asked = inside.flatten(1).any(dim=1)
    if not bool(asked.any()):
        return evidence.new_zeros(())
    shares = torch.log_softmax(_SHARPNESS * evidence[asked].flatten(1), dim=1)
    kept = shares.masked_fill(~inside[asked].flatten(1), -torch.inf)
    return -torch.logsumexp(kept, dim=1).mean()


def _stage(
    inputs: int, outputs: int, *, kernel_size: int = 3, strides: int = 1, padding: int = 1
) -> nn.Module:
    shape = {"kernel_size": kernel_size, "strides": strides, "padding": padding}
    return Convolution(3, inputs, outputs, **shape, act="RELU", norm="BATCH")


def _made(seed: int, folder: Path) -> bool:
    store_example(seed, folder)
    return bool(whole_example(seed, folder)[1].any())


def _learn(parts: dict, images: Tensor, filling: Tensor, outlined: Tensor, device: str) -> None:
    network, lesion = parts["network"].train(), (filling > _FILLED).to(device)
    features = network[:-1](images.to(device))
    logits = network[-1](features)[:, 0]
    has_lesion = lesion.flatten(1).any(dim=1)
    loss = functional.binary_cross_entropy_with_logits(logits, has_lesion.to(logits))
    if bool(outlined.any()):
        inside = lesion & outlined.to(device).view(-1, *[1] * (lesion.ndim - 1))
        evidence = network[-1].evidence(features)
        loss = loss + _RELEVANCE_WEIGHT * relevance_outside(evidence, inside)
    parts["optimizer"].zero_grad()
    torch.autograd.backward(loss)
    parts["optimizer"].step()
    parts["schedule"].step()


def _keep(file: Path, parts: dict, plan: Plan, step: int) -> None:
    states = {name: part.state_dict() for name, part in parts.items()}
    part_file = file.with_suffix(".part")
    torch.save(states | {"plan": asdict(plan), "step": step}, part_file)
    part_file.replace(file)


def _resumed(file: Path, parts: dict, plan: Plan) -> int:
    if not file.exists():
        return 0
    stored = torch.load(file, weights_only=True)
    if stored["plan"] != asdict(plan):
        raise SystemExit(f"{file} is of {stored['plan']}, asked is {asdict(plan)}: remove it")
    for name, part in parts.items():
        part.load_state_dict(stored[name])
    return stored["step"]
