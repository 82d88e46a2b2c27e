"""Trains the phantom classifier: ``python -m ai.phantom.train --work DIR``.

The network learns on small crops, at last on whole heads, from whether there is a lesion inside
and, at every place of its evidence map, whether it is here. Each step adds a phantom to those that
it draws from, until all are made. A run that was stopped continues at its last checkpoint; the
same seed gives the same weights on one machine.
"""

import argparse
import hashlib
import logging
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch
from rich.progress import track
from scipy.optimize import brentq
from scipy.special import expit
from torch import Tensor
from torch.nn import functional
from torch.optim import AdamW
from torch.optim.lr_scheduler import OneCycleLR

from ai.models.phantom import WEIGHTS_FILE
from ai.phantom.examples import random_batch, store_example, whole_example
from ai.phantom.network import STRIDE, PhantomNetwork, pooled

logger = logging.getLogger(__name__)

#: Seeds of the training phantoms begin here; tests and benchmarks stay below.
FIRST_TRAINING_SEED = 1_000_000
_FIRST_PHANTOMS = 64
_CROP = (32, 32, 32)
_CROPS_PER_STEP = 16
_HEADS_PER_STEP = 3
#: The last part of the steps sees whole heads.
_CROP_SHARE = 0.93
_LEARNING_RATE = 2e-3
_WARM_UP_SHARE = 0.05
_WEIGHT_DECAY = 1e-2
#: A place of the evidence map counts as lesion from this filling on, as healthy below the other.
_FILLED, _EMPTY = 0.4, 0.1
#: Lesion places are rare, healthy ones must not be called: this many healthy to one lesion.
_HEALTHY_WEIGHT = 4.0
_STEPS_PER_CHECKPOINT = 100
_CALIBRATION_PHANTOMS = 128
#: No logit is further from its place.
_WIDEST = 100.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is trained, and where it is kept."""

    work: Path
    phantoms: int
    steps: int
    seed: int

    @property
    def seeds(self) -> range:
        """The seeds of the training phantoms."""
        return range(FIRST_TRAINING_SEED, FIRST_TRAINING_SEED + self.phantoms)


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """The network on its way, with all that a checkpoint keeps."""

    network: PhantomNetwork
    optimizer: AdamW
    schedule: OneCycleLR

    def save(self, path: Path, step: int) -> None:
        """Write a checkpoint after ``step`` steps."""
        states = {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
        }
        part = path.with_suffix(".part")
        torch.save(states | {"step": step}, part)
        part.replace(path)

    def resume(self, path: Path) -> int:
        """Continue from a checkpoint, if there is one; return the number of steps done."""
        if not path.exists():
            return 0
        stored = torch.load(path, weights_only=True)
        self.network.load_state_dict(stored["network"])
        self.optimizer.load_state_dict(stored["optimizer"])
        self.schedule.load_state_dict(stored["schedule"])
        return int(stored["step"])


def train(plan: Plan, until: int | None = None) -> PhantomNetwork:
    """Return the trained network in evaluation mode; ``until`` a step, a part of the plan."""
    plan.work.mkdir(parents=True, exist_ok=True)
    course = _begin(plan)
    checkpoint = plan.work / "checkpoint.pt"
    done = course.resume(checkpoint)
    for seed in track(_pool(plan, done), description="phantoms"):
        store_example(seed, plan.work)
    losses = []
    last = plan.steps if until is None else until
    for step in track(range(done, last), description="training"):
        losses.append(_learn(course, *_batch(plan, step)))
        if (step + 1) % _STEPS_PER_CHECKPOINT == 0 or step + 1 == last:
            course.save(checkpoint, step + 1)
            logger.info("step %d of %d: loss %.3f", step + 1, plan.steps, np.mean(losses))
            losses.clear()
    return _calibrated(course.network.eval(), plan)


def save_weights(network: PhantomNetwork, path: Path) -> str:
    """Write the weights and return their sha256 (hex)."""
    torch.save(network.state_dict(), path)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _begin(plan: Plan) -> Course:
    torch.manual_seed(plan.seed)
    network = PhantomNetwork()
    optimizer = AdamW(network.parameters(), lr=_LEARNING_RATE, weight_decay=_WEIGHT_DECAY)
    schedule = OneCycleLR(
        optimizer, _LEARNING_RATE, total_steps=plan.steps, pct_start=_WARM_UP_SHARE
    )
    return Course(network=network, optimizer=optimizer, schedule=schedule)


def _pool(plan: Plan, step: int) -> range:
    """Return the seeds of the phantoms that a step draws from."""
    return plan.seeds[: _FIRST_PHANTOMS + step]


def _batch(plan: Plan, step: int) -> tuple[Tensor, Tensor]:
    rng = np.random.default_rng((plan.seed, step))
    on_crops = step < _CROP_SHARE * plan.steps
    pool = _pool(plan, step)
    store_example(pool[-1], plan.work)
    seeds = rng.choice(np.array(pool), _CROPS_PER_STEP if on_crops else _HEADS_PER_STEP)
    return random_batch(seeds, plan.work, crop=_CROP if on_crops else None, rng=rng)


def _learn(course: Course, heads: Tensor, truths: Tensor) -> float:
    """Take one step and return its loss."""
    loss = _loss(course.network.evidence(heads), functional.avg_pool3d(truths, STRIDE))
    course.optimizer.zero_grad()
    torch.autograd.backward(loss)
    course.optimizer.step()
    course.schedule.step()
    return float(loss.detach())


def _loss(evidence: Tensor, filling: Tensor) -> Tensor:
    """Return the cross-entropy of the images, that of lesion places and that of healthy ones.

    Parameters
    ----------
    evidence
        [B, 1, *s], the network's.
    filling
        [B, 1, *s], how much of each place is lesion, 0 to 1; what is in between is not asked.
    """
    lesion, healthy = (filling > _FILLED).to(evidence), (filling < _EMPTY).to(evidence)
    of_places = functional.binary_cross_entropy_with_logits(evidence, lesion, reduction="none")
    of_images = functional.binary_cross_entropy_with_logits(
        pooled(evidence)[:, 0], lesion.flatten(start_dim=1).amax(dim=1)
    )
    at_lesions = (of_places * lesion).sum() / (lesion.sum() + 1)
    elsewhere = (of_places * healthy).sum() / (healthy.sum() + 1)
    return of_images + at_lesions + _HEALTHY_WEIGHT * elsewhere


def _calibrated(network: PhantomNetwork, plan: Plan) -> PhantomNetwork:
    """Return the network with its evidence shifted so that its probabilities are right on average.

    A whole head has more places than a crop, so its logit is higher. The shift that makes the mean
    probability the share of heads with a lesion is the most likely one of a logistic model.
    """
    logits, lesions = [], []
    for seed in track(plan.seeds[:_CALIBRATION_PHANTOMS], description="calibrating"):
        store_example(seed, plan.work)
        head, truth = whole_example(seed, plan.work)
        with torch.no_grad():
            logits.append(float(network(head)))
        lesions.append(bool(truth.any()))
    share = (sum(lesions) + 0.5) / (len(lesions) + 1)
    shift = brentq(lambda by: expit(np.array(logits) + by).mean() - share, -_WIDEST, _WIDEST)
    with torch.no_grad():
        network.head.bias += shift
    return network


def main() -> None:
    """Train as the command line says and write the weights."""
    parser = argparse.ArgumentParser(prog="python -m ai.phantom.train", description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder for phantoms, checkpoints")
    parser.add_argument("--phantoms", type=int, default=2000, help="how many (%(default)s)")
    parser.add_argument("--steps", type=int, default=2600, help="of training (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of weights and batches (%(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="of torch (%(default)s)")
    default = Path(str(files("ai.phantom") / WEIGHTS_FILE))
    parser.add_argument("--out", type=Path, default=default, help="weights file (%(default)s)")
    asked = parser.parse_args()
    logging.basicConfig(level=logging.INFO)
    torch.set_num_threads(asked.threads)
    network = train(
        Plan(work=asked.work, phantoms=asked.phantoms, steps=asked.steps, seed=asked.seed)
    )
    digest = save_weights(network, asked.out)
    logger.info("wrote %s, sha256 %s", asked.out, digest)


if __name__ == "__main__":
    main()
