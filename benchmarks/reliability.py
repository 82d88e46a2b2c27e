"""How far what was fitted to the phantom's model can be trusted, on phantoms that nobody saw.

    python -m benchmarks.reliability [--phantoms 1000] [--again 0] [--strangers 100] [--head FILE]

Fits on as many phantoms as it holds back, and shows the model images that are no phantom at all.
With --again the calibration is looked at on further phantoms alone, too.
Every image that was read is kept in --work: a run that was stopped goes on where it was, and one
with greater numbers adds to it.
"""

import argparse
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table
from scipy.optimize import minimize

from ai.model import ModelSettings
from ai.models.phantom import WEIGHTS_SHA256, PhantomModel, load
from ai.quality.intervals import Interval, bootstrap_interval
from ai.reliability.answers import Activation, answer_probabilities, answers_of
from ai.reliability.assessment import Cases, Reliability, fit_reliability
from ai.reliability.calibration import (
    Calibration,
    brier_score,
    confidences_of,
    fit_temperature,
)
from ai.reliability.discrimination import area_under_curve, bootstrap_roc
from ai.reliability.out_of_distribution import energies
from ai.session import ExplainSession
from benchmarks.calibration_errors import ERRORS, honest_error
from benchmarks.reliability_images import KINDS, PHANTOM, real_head

RESULTS = Path(__file__).parent / "results" / "reliability.json"
#: Training saw none of them. On some of the former the shipped network was preferred to a smaller
#: one; of the latter no choice ever depended.
FIRST_FITTED, FIRST_HELD = 800_000, 900_000
#: How probabilities are scaled was chosen when those had been seen; these had not.
FIRST_AGAIN = 910_000
LEVEL = 0.9
MODEL, SCALED = "model", "two slopes and bias"
REAL_HEAD = "real T1 head"
_SIGMOID = Activation.SIGMOID


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What the model made of one image."""

    kind: str
    seed: int
    logit: float
    features: tuple[float, ...]
    has_lesion: bool

    @property
    def key(self) -> tuple[str, int]:
        return self.kind, self.seed


@cache
def _model() -> PhantomModel:
    torch.set_num_threads(1)
    return load(ModelSettings(name="phantom", kind="phantom"))


@cache
def _first_session() -> ExplainSession:
    """Return the session of one phantom; all images lie on its grid."""
    tensor = _model().prepare(KINDS[PHANTOM](0).volume).tensor
    return ExplainSession(_model().network, tensor, variants=())


def read(key: tuple[str, int], *, head: Path | None) -> Reading:
    kind, seed = key
    if kind == REAL_HEAD and head is not None:
        shown = real_head(seed, file=head)
    else:
        shown = KINDS[kind](seed)
    tensor = _model().prepare(shown.volume).tensor
    session = _first_session().on(tensor)
    return Reading(
        kind=kind,
        seed=seed,
        logit=float(session.output[0, 0]),
        features=tuple(float(value) for value in session.features[0]),
        has_lesion=shown.has_lesion,
    )


def cases_of(readings: Sequence[Reading]) -> Cases:
    return Cases(
        logits=torch.tensor([[each.logit] for each in readings]),
        labels=torch.tensor([int(each.has_lesion) for each in readings]),
        features=torch.tensor([each.features for each in readings]),
        activation=_SIGMOID,
    )


def measured(
    fitted: Sequence[Reading],
    held: Sequence[Reading],
    strange: Mapping[str, Sequence[Reading]],
    *,
    again: Sequence[Reading] = (),
    resamples: int = 1000,
) -> dict:
    """Return all figures; nothing but ``fitted`` was part of what was fitted."""
    known, new = cases_of(fitted), cases_of(held)
    reliability = fit_reliability(known, weights_sha256=WEIGHTS_SHA256, level=LEVEL)
    truths = [each.has_lesion for each in held]
    return {
        "fitted": len(fitted),
        "held_back": len(held),
        "with_lesion": sum(truths),
        "auc": area_under_curve([each.logit for each in held], truths),
        "slopes": reliability.calibration.slopes,
        "bias": float(reliability.calibration.biases[0]),
        "calibration": calibration_figures(known, new, reliability, resamples),
        "again": {
            "phantoms": len(again),
            **calibration_figures(known, cases_of(again), reliability, resamples),
        }
        if again
        else None,
        "conformal": conformal_figures(new, reliability),
        "familiar": familiar_figures(new, reliability),
        "strange": {
            kind: strange_figures(cases_of(readings), new, reliability)
            for kind, readings in strange.items()
            if readings
        },
    }


def calibration_figures(known: Cases, new: Cases, reliability: Reliability, resamples: int) -> dict:
    """Return calibration errors and Brier score: of the model itself, and as it was scaled.

    Errors are of the probability of a lesion, in bins of like width and of like numbers, and what
    of the latter is beyond chance; and of the answer that is given, as Guo et al. 2017 have it.
    """
    alone = fit_temperature(known.logits, known.labels, _SIGMOID)
    probabilities = {
        MODEL: answer_probabilities(new.logits, _SIGMOID),
        "temperature alone": answer_probabilities(new.logits, _SIGMOID, temperature=alone),
        "one slope and bias": platt(known).probabilities(new.logits, _SIGMOID),
        SCALED: reliability.calibration.probabilities(new.logits, _SIGMOID),
    }
    right = answers_of(new.labels, new.logits, _SIGMOID)
    claims = {
        name: np.column_stack(confidences_of(each, right, _SIGMOID))
        for name, each in probabilities.items()
    }
    figures = {
        name: {
            **{
                error: asdict(_interval(claims[name], of, resamples))
                for error, of in ERRORS.items()
            },
            "brier": brier_score(each, right, _SIGMOID),
        }
        for name, each in probabilities.items()
    }
    paired = np.column_stack((claims[MODEL][:, 0], claims[SCALED]))
    return figures | {
        "ratios": {
            error: asdict(_interval(paired, partial(_ratio, of), resamples))
            for error, of in ERRORS.items()
        },
        "honest": {error: honest_error(claims[SCALED][:, 0], of) for error, of in ERRORS.items()},
    }


def platt(known: Cases) -> Calibration:
    """Return the scaling by one slope for no and yes, and a bias (Platt 1999)."""
    logits, truth = known.logits[:, 0].double().numpy(), known.labels.flatten().numpy()

    def loss(weights: NDArray[np.floating]) -> float:
        sums = weights[0] * logits + weights[1]
        return float((np.logaddexp(0.0, sums) - truth * sums).mean())

    slope, bias = minimize(loss, np.array([1.0, 0.0]), method="BFGS").x
    return Calibration(slopes=(slope, slope), biases=torch.tensor([bias]).double())


def conformal_figures(new: Cases, reliability: Reliability) -> dict:
    assessed = reliability.assess(new.logits, new.features)
    right = answers_of(new.labels, new.logits, _SIGMOID)
    covered = assessed.sets.gather(2, right[:, :, None])[:, 0, 0].double().numpy()
    sizes = assessed.sets.sum(dim=2)[:, 0]
    share = float(covered.mean())
    # Coverage varies with the cases that were fitted, too, not only with those held back.
    spread = np.sqrt(LEVEL * (1 - LEVEL) * (1 / reliability.cases + 1 / len(right)))
    return {
        "level": LEVEL,
        "coverage": asdict(bootstrap_interval(covered, generator=np.random.default_rng(0))),
        "away_from_level": share - LEVEL,
        "chance_deviation": float(spread),
        "one_answer": float((sizes == 1).double().mean()),
        "no_answer": float((sizes == 0).double().mean()),
        "both_answers": float((sizes == 2).double().mean()),
    }


def familiar_figures(new: Cases, reliability: Reliability) -> dict:
    assessed = reliability.assess(new.logits, new.features)
    return {
        "distance_limit": reliability.distance_limit,
        "energy_limit": reliability.energy_limit,
        "called_strange": float((~assessed.in_distribution).double().mean()),
    }


def strange_figures(strangers: Cases, new: Cases, reliability: Reliability) -> dict:
    assessed = reliability.assess(strangers.logits, strangers.features)
    near = reliability.features.distances(new.features)
    scores = {
        "distance": (assessed.distance, near),
        "energy": (assessed.energy, energies(new.logits, _SIGMOID)),
    }
    found = {name: _area(strange, familiar) for name, (strange, familiar) in scores.items()}
    return found | {
        "images": len(strangers.logits),
        "nearest": float(assessed.distance.min()),
        "called_strange": float((~assessed.in_distribution).double().mean()),
    }


def _area(strange: torch.Tensor, familiar: torch.Tensor) -> dict:
    scores = torch.cat((strange, familiar)).numpy()
    truths = np.arange(len(scores)) < len(strange)
    band = bootstrap_roc(scores, truths, generator=np.random.default_rng(0), draws=500)
    return asdict(
        Interval(estimate=area_under_curve(scores, truths), low=band.area_low, high=band.area_high)
    )


def _interval(cases: NDArray[np.floating], statistic, resamples: int) -> Interval:
    return bootstrap_interval(
        cases, generator=np.random.default_rng(0), statistic=statistic, resamples=resamples
    )


def _ratio(of: Callable[[NDArray[np.floating]], float], claims: NDArray[np.floating]) -> float:
    """Return the error after scaling over that before, of [N, (before, after, outcome)]."""
    return of(claims[:, [1, 2]]) / max(of(claims[:, [0, 2]]), 1e-12)


def wanted(*, phantoms: int, strangers: int, kinds: Iterable[str]) -> Iterator[tuple[str, int]]:
    """Yield kind and seed of every image, those fitted and those held back in turns."""
    for number in range(phantoms):
        yield PHANTOM, FIRST_FITTED + number
        yield PHANTOM, FIRST_HELD + number
    for number in range(strangers):
        yield from ((kind, FIRST_HELD + number) for kind in kinds)


def load_readings(file: Path) -> dict[tuple[str, int], Reading]:
    if not file.exists():
        return {}
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    if lines and not lines[-1].endswith("\n"):
        # A run that was stopped has left half a line: the next one begins behind it.
        file.write_text("".join(lines[:-1]), encoding="utf-8")
    rows = (json.loads(line) for line in lines if line.endswith("\n"))
    readings = (Reading(**{**row, "features": tuple(row["features"])}) for row in rows)
    return {each.key: each for each in readings}


def show(figures: dict, console: Console) -> None:
    console.print(
        f"{figures['fitted']} phantoms fitted, {figures['held_back']} held back, "
        f"{figures['with_lesion']} of them with a lesion: AUC {figures['auc']:.3f}"
    )
    conformal = figures["conformal"]
    console.print(_calibration_table(figures["calibration"]))
    if figures["again"]:
        console.print(f"{figures['again']['phantoms']} further phantoms")
        console.print(_calibration_table(figures["again"]))
    console.print(
        f"coverage {conformal['coverage']['estimate']:.3f} at {LEVEL:.0%} (chance deviation "
        f"{conformal['chance_deviation']:.3f}); one answer in {conformal['one_answer']:.1%}; "
        f"called strange {figures['familiar']['called_strange']:.1%}"
    )
    table = Table("strange", "images", "AUC by distance", "AUC by energy", "called strange")
    for kind, found in figures["strange"].items():
        areas = (f"{found[name]['estimate']:.3f}" for name in ("distance", "energy"))
        table.add_row(kind, str(found["images"]), *areas, f"{found['called_strange']:.1%}")
    console.print(table)


def _calibration_table(calibration: Mapping) -> Table:
    table = Table("probability", *ERRORS, "Brier score")
    for name in (MODEL, "temperature alone", "one slope and bias", SCALED):
        errors = (_said(calibration[name][error], 4) for error in ERRORS)
        table.add_row(name, *errors, f"{calibration[name]['brier']:.4f}")
    table.add_row("after / before", *(_said(calibration["ratios"][error], 2) for error in ERRORS))
    table.add_row("by chance alone", *(f"{calibration['honest'][error]:.4f}" for error in ERRORS))
    return table


def _said(interval: Mapping[str, float], decimals: int) -> str:
    estimate, low, high = (f"{interval[key]:.{decimals}f}" for key in ("estimate", "low", "high"))
    return f"{estimate} ({low} to {high})"


def main(words: Sequence[str] | None = None) -> None:
    asked = _arguments().parse_args(words)
    kinds = [kind for kind in KINDS if kind != PHANTOM]
    kinds += [] if asked.head is None else [REAL_HEAD]
    keys = list(wanted(phantoms=asked.phantoms, strangers=asked.strangers, kinds=kinds))
    further = [(PHANTOM, FIRST_AGAIN + number) for number in range(asked.again)]
    file = asked.work / "readings.jsonl"
    asked.work.mkdir(parents=True, exist_ok=True)
    readings = load_readings(file)
    missing = [key for key in (*keys, *further) if key not in readings]
    with (
        file.open("a", encoding="utf-8") as kept,
        ProcessPoolExecutor(asked.workers, mp_context=get_context("spawn")) as pool,
    ):
        found = pool.map(partial(read, head=asked.head), missing)
        for reading in track(found, "images", total=len(missing)):
            readings[reading.key] = reading
            kept.write(json.dumps(asdict(reading)) + "\n")
            kept.flush()
    mine = [readings[key] for key in keys]
    phantoms = [each for each in mine if each.kind == PHANTOM]
    strange = {kind: [each for each in mine if each.kind == kind] for kind in kinds}
    again = [readings[key] for key in further]
    figures = measured(phantoms[::2], phantoms[1::2], strange, again=again)
    show(figures, Console())
    asked.json.parent.mkdir(parents=True, exist_ok=True)
    content = figures | {"weights_sha256": WEIGHTS_SHA256}
    asked.json.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reliability", description=__doc__)
    parser.add_argument("--phantoms", type=int, default=1000, help="fitted, and as many held back")
    parser.add_argument("--again", type=int, default=0, help="further ones held back")
    parser.add_argument("--strangers", type=int, default=100, help="images of each strange kind")
    parser.add_argument("--head", type=Path, help="a real T1 head, NIfTI of 1 mm")
    parser.add_argument("--work", type=Path, default=Path("build/reliability"), help="%(default)s")
    parser.add_argument("--json", type=Path, default=RESULTS, help="file to write (%(default)s)")
    parser.add_argument("--workers", type=int, default=1, help="processes (%(default)s)")
    return parser


if __name__ == "__main__":
    main()
