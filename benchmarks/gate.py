"""Whether the gate lets good heatmaps through and stops bad ones, on phantoms with known truth.

    python -m benchmarks.gate [--lesions 100] [--first 900000] [--json FILE]

Every lesion is one that the phantom model found and no choice had seen. Beside the map of the
network for its finding stand maps that must be stopped: of a network whose weights were drawn anew,
shown for the finding of the true one or explaining what it found itself; and three that know no
model. Maps of another class are tried by ``benchmarks.class_maps``. What was measured is kept in
``--work``: a run that was stopped goes on where it was.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor, nn

from ai.explainers.cam import LayerCAM
from ai.measure import Case, measures_of
from ai.model import Attribution, ModelSettings, Prepared, Target
from ai.models.phantom import PhantomModel, load
from ai.phantom.make import Phantom, make_phantom
from ai.prepare import to_source_grid
from ai.quality.controls import intensity_map, random_map, sobel_map
from ai.quality.intervals import bootstrap_interval
from ai.quality.localization import pointing_game, relevance_mass_accuracy, relevance_rank_accuracy
from ai.quality.randomization import emprt, randomized
from ai.targets import ClassLogit
from dicom_io.analysis import (
    Analysis,
    Cost,
    Explanation,
    Heatmap,
    MeasureValue,
    ModelCard,
    Verdict,
)
from node.config import GateSettings
from node.gate import COMPREHENSIVENESS, apply_gate

T = TypeVar("T")
RESULTS = Path(__file__).parent / "results" / "gate.json"
#: Networks drawn anew for each lesion.
STRANGERS = 2
GOOD = "layer_cam"
LESION = ClassLogit(0)
SHOWN, ITSELF = "of random weights, shown for the finding", "of random weights, for its own finding"
_CONTROLS = ("random", "sobel", "intensity")
_PLACES = {
    "pointing": pointing_game,
    "mass": relevance_mass_accuracy,
    "rank": relevance_rank_accuracy,
}


def main() -> None:
    asked = _arguments().parse_args()
    torch.set_num_threads(1)
    model = load(ModelSettings(name="phantom", kind="phantom"))
    rows = list(_rows(asked, model))
    figures = {"lesions": len(rows), "first_seed": asked.first, **summary(rows)}
    show(figures, Console())
    asked.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--lesions", type=int, default=100, help="found lesions (%(default)s)")
    parser.add_argument("--first", type=int, default=900_000, help="first seed (%(default)s)")
    parser.add_argument("--work", type=Path, default=Path("build/gate"), help="what is kept")
    parser.add_argument("--json", type=Path, default=RESULTS, help="file to write (%(default)s)")
    return parser


def _rows(asked: argparse.Namespace, model: PhantomModel) -> Iterator[dict]:
    """Yield what was measured of each found lesion, those first that are on file."""
    file = asked.work / f"rows-{asked.first}.jsonl"
    lines = file.read_text("utf-8").splitlines() if file.exists() else []
    kept = [json.loads(line) for line in lines][: asked.lesions]
    yield from kept
    seed = kept[-1]["seed"] + 1 if kept else asked.first
    left = range(asked.lesions - len(kept))
    with file.open("a", encoding="utf-8") as stream:
        for _ in track(left, description="lesions", console=Console(stderr=True)):
            seed, phantom, prepared = found_lesion(seed, model)
            row = read(seed, phantom, prepared, model.network)
            stream.write(json.dumps(row) + "\n")
            stream.flush()
            seed += 1
            yield row


def found_lesion(seed: int, model: PhantomModel) -> tuple[int, Phantom, Prepared]:
    """Return the next phantom from ``seed`` on whose lesion the model finds."""
    while True:
        phantom = make_phantom(seed)
        if phantom.has_lesion:
            prepared = model.prepare(phantom.volume)
            (probability,) = model.predict(prepared).probabilities.values()
            if probability >= model.threshold:
                return seed, phantom, prepared
        seed += 1


def read(seed: int, phantom: Phantom, prepared: Prepared, network: nn.Module) -> dict:
    """Return measures and verdict of every map of one found lesion."""
    x = prepared.tensor
    forward = _seconds(lambda: network(x))[1]
    good = LayerCAM().explain(network, x, LESION)
    judged_good, taken = _seconds(lambda: judged(good, network, x, map_of(network, LESION)))
    maps = {GOOD: [judged_good], SHOWN: [], ITSELF: []}
    for draw in range(STRANGERS):
        generator = torch.Generator().manual_seed(STRANGERS * seed + draw)
        stranger = randomized(network, generator=generator)
        own = LayerCAM().explain(stranger, x, LESION)
        shown, remade = replace(good, values=own.values), map_of(stranger, LESION)
        maps[SHOWN].append(judged(shown, network, x, remade))
        maps[ITSELF].append(judged(own, stranger, x, remade))
    blind = _blind(prepared, seed)
    for name, values in blind.items():
        maps[name] = [judged(replace(good, values=values), network, x, lambda _, v=values: v)]
    rise = emprt(
        lambda asked, image: map_of(asked, LESION)(image),
        network,
        x,
        generator=torch.Generator().manual_seed(seed),
    )
    return {
        "seed": seed,
        "maps": maps,
        "places": {
            name: _place(values, prepared, phantom)
            for name, values in {GOOD: good.values, **blind}.items()
        },
        "emprt": float(rise),
        "gate_forwards": taken / forward,
    }


def judged(
    attribution: Attribution,
    network: nn.Module,
    x: Tensor,
    explain: Callable[[Tensor], Tensor],
    *,
    of: Target = LESION,
) -> dict:
    """Return the measures of a map held against what a network found, and the gate's verdict.

    Parameters
    ----------
    explain
        Makes the map of another image.
    of
        What was found.
    """
    case = Case(attribution=attribution, network=network, x=x, target=of, explain=explain)
    measured = measures_of(case).values
    verdict, failed = verdict_of(measured)
    return {
        "passed": verdict is Verdict.PASSED,
        "values": {each.name: each.value for each in measured},
        "failed": failed,
    }


def verdict_of(measured: Sequence[MeasureValue]) -> tuple[Verdict | None, list[str]]:
    """Return the gate's verdict on measures alone, and the names of those that failed."""
    explanation = Explanation(
        target="lesion",
        method="layer_cam",
        heatmap=Heatmap(relevance=np.zeros((1, 1, 1, 1), np.float32)),
        measures=tuple(measured),
        cost=Cost(forwards=1.0),
    )
    card = ModelCard(name="phantom", version="", weights_sha256="")
    analysis = Analysis(model=card, input_name="", explanations=(explanation,))
    (held,) = apply_gate(analysis, GateSettings()).explanations
    return held.verdict, [each.name for each in held.measures if each.passed is False]


def summary(rows: Sequence[dict]) -> dict:
    """Return how often each kind of map passes, and where it points, with intervals of 95 %."""
    return {
        "passed": {
            kind: interval([each["passed"] for row in rows for each in row["maps"][kind]])
            for kind in rows[0]["maps"]
            if any(row["maps"][kind] for row in rows)
        },
        "maps": {kind: sum(len(row["maps"][kind]) for row in rows) for kind in rows[0]["maps"]},
        "stopped_by": {
            kind: _counts([each["failed"] for row in rows for each in row["maps"][kind]])
            for kind in rows[0]["maps"]
        },
        "comprehensiveness": {
            kind: _spread(
                [each["values"]["comprehensiveness"] for row in rows for each in row["maps"][kind]]
            )
            for kind in rows[0]["maps"]
            if any(row["maps"][kind] for row in rows)
        },
        "places": {
            name: {
                measure: interval([row["places"][name][measure] for row in rows])
                for measure in _PLACES
            }
            for name in (GOOD, *_CONTROLS)
        },
        "emprt": interval([row["emprt"] for row in rows]),
        "gate_forwards": float(np.median([row["gate_forwards"] for row in rows])),
    }


def show(figures: dict, console: Console) -> None:
    console.print(
        f"{figures['lesions']} found lesions; eMPRT {_said(figures['emprt'])}; the gate costs "
        f"{figures['gate_forwards']:.1f} F"
    )
    table = Table("map", "how many", "passes", "stopped by")
    for kind, share in figures["passed"].items():
        failed = ", ".join(f"{name} {count}" for name, count in figures["stopped_by"][kind].items())
        table.add_row(kind, str(figures["maps"][kind]), _said(share), failed)
    console.print(table)
    table = Table("map", *_PLACES)
    for name, values in figures["places"].items():
        table.add_row(name, *(_said(each) for each in values.values()))
    console.print(table)


def map_of(network: nn.Module, target: Target) -> Callable[[Tensor], Tensor]:
    """Return what makes the map of an image that explains a target."""
    return lambda image: LayerCAM().explain(network, image, target).values


@torch.no_grad()
def _seconds(run: Callable[[], T]) -> tuple[T, float]:
    start = time.process_time()
    answer = run()
    return answer, time.process_time() - start


def _blind(prepared: Prepared, seed: int) -> dict[str, Tensor]:
    """Return the maps that know no model, [1, 1, *S]."""
    image = prepared.tensor[0, 0].numpy()
    made: dict[str, Callable[[], NDArray[np.float32]]] = {
        "random": lambda: random_map(image.shape, np.random.default_rng(seed)),
        "sobel": lambda: sobel_map(image),
        "intensity": lambda: intensity_map(image),
    }
    return {name: torch.from_numpy(make())[None, None] for name, make in made.items()}


def _place(values: Tensor, prepared: Prepared, phantom: Phantom) -> dict[str, float]:
    relevance = to_source_grid(values[0], prepared)[0]
    return {name: float(measure(relevance, phantom.truth)) for name, measure in _PLACES.items()}


def interval(values: Sequence[float]) -> list[float]:
    """Return the mean with its 95 % interval: estimate, low, high."""
    cases = np.asarray(values, dtype=np.float64)
    found = bootstrap_interval(cases, generator=np.random.default_rng(0))
    return [found.estimate, found.low, found.high]


def _spread(values: Sequence[float]) -> dict[str, float]:
    """Return the middle nine tenths, and how many lie above 0 and above the gate's limit."""
    low, high = np.quantile(values, (0.05, 0.95))
    limit = COMPREHENSIVENESS.limit
    above = {f"above {each:g}": sum(value > each for value in values) for each in (0.0, limit)}
    return {"low": float(low), "high": float(high), **above}


def _counts(failed: Sequence[Sequence[str]]) -> dict[str, int]:
    names = [name for each in failed for name in each]
    return {name: names.count(name) for name in dict.fromkeys(names)}


def _said(interval: Sequence[float]) -> str:
    estimate, low, high = interval
    return f"{estimate:.3f} ({low:.3f} to {high:.3f})"


if __name__ == "__main__":
    main()
