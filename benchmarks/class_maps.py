"""Whether the gate stops the map of one class that is shown for another, where both are found.

    python -m benchmarks.class_maps [--phantoms 40] [--first 980000] [--json FILE]

Every phantom has a lesion and a grain, and the network of ``benchmarks.two_classes`` finds both:
each finding's own map must pass, and the other's, shown for it, must be stopped. A map of the other
class that has relevance where the finding is, too, is no wrong one there: those that have nearly
none are counted apart.
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from ai.explainers.cam import LayerCAM
from ai.model import ModelSettings, Prepared
from ai.models.phantom import PhantomModel, load
from ai.phantom.inserts import Kind
from ai.phantom.make import Phantom, make_phantom
from ai.prepare import to_source_grid
from ai.quality.localization import pointing_game, relevance_mass_accuracy
from ai.targets import ClassLogit
from benchmarks.gate import interval, judged, map_of
from benchmarks.two_classes import GRAIN, LESION, TwoClasses, with_second_class

RESULTS = Path(__file__).parent / "results" / "class-maps.json"
#: A map with less of its relevance where the finding is points elsewhere.
ELSEWHERE = 0.05
_CLASSES = {"lesion": LESION, "grain": GRAIN}
_KINDS = {"lesion": Kind.LESION, "grain": Kind.GRAIN}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.class_maps", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--phantoms", type=int, default=40, help="how many (%(default)s)")
    parser.add_argument("--first", type=int, default=980_000, help="first seed (%(default)s)")
    parser.add_argument("--work", type=Path, default=Path("build/gate"), help="what is kept")
    parser.add_argument("--json", type=Path, default=RESULTS, help="file to write (%(default)s)")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    model = load(ModelSettings(name="phantom", kind="phantom"))
    network = with_second_class(model, asked.work)
    found = found_phantoms(asked.first, model, network)
    numbers = track(range(asked.phantoms), "phantoms", console=Console(stderr=True))
    figures = summary([read(*next(found), network) for _ in numbers], network)
    show(figures, Console())
    asked.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def found_phantoms(
    seed: int, model: PhantomModel, network: TwoClasses
) -> Iterator[tuple[Phantom, Prepared]]:
    """Yield phantoms, from a seed on, both of whose classes the network finds."""
    while True:
        phantom = make_phantom(seed, kinds=tuple(_KINDS.values()))
        prepared = model.prepare(phantom.volume)
        with torch.no_grad():
            is_found = bool((network(prepared.tensor) > 0).all())
        if is_found:
            yield phantom, prepared
        seed += 1


def read(phantom: Phantom, prepared: Prepared, network: TwoClasses) -> list[dict]:
    """Return what the gate says of each class's map, shown for each class."""
    x = prepared.tensor
    maps = {name: LayerCAM().explain(network, x, target) for name, target in _CLASSES.items()}
    relevance = {name: to_source_grid(each.values[0], prepared)[0] for name, each in maps.items()}
    return [
        {
            "map": shown,
            "finding": finding,
            "points": pointing_game(relevance[shown], phantom.places[_KINDS[shown]]),
            "there": relevance_mass_accuracy(relevance[shown], phantom.places[_KINDS[finding]]),
            **judged(
                replace(maps[finding], values=maps[shown].values),
                network,
                x,
                map_of(network, _target(shown)),
                of=_target(finding),
            ),
        }
        for finding in _CLASSES
        for shown in _CLASSES
    ]


def _target(name: str) -> ClassLogit:
    return _CLASSES[name]


def summary(rows: list[list[dict]], network: TwoClasses) -> dict:
    """Return how often each map passes for each finding, with intervals of 95 %."""
    judgements = [each for row in rows for each in row]
    pairs: dict[str, list[dict]] = {}
    for each in judgements:
        pairs.setdefault(f"{each['map']} for {each['finding']}", []).append(each)
    return {
        "phantoms": len(rows),
        "grain": {
            "area_under_curve": float(network.area_under_curve),
            "found_in_place": float(network.found_in_place),
        },
        "pairs": {
            pair: {
                "passed": interval([each["passed"] for each in of_pair]),
                "points_at_its_own_class": interval([each["points"] for each in of_pair]),
                "elsewhere": _elsewhere(of_pair),
                "stopped_by": sorted({name for each in of_pair for name in each["failed"]}),
            }
            for pair, of_pair in pairs.items()
        },
    }


def _elsewhere(judgements: list[dict]) -> dict:
    """Return how many maps have nearly nothing where the finding is, and how many of them pass."""
    passed = [each["passed"] for each in judgements if each["there"] < ELSEWHERE]
    return {"maps": len(passed), "passed": sum(passed)}


def show(figures: dict, console: Console) -> None:
    table = Table("map", "passes", "points at its own class", "elsewhere", "stopped by")
    for pair, each in figures["pairs"].items():
        shares = (each["passed"], each["points_at_its_own_class"])
        said = [f"{estimate:.3f} ({low:.3f} to {high:.3f})" for estimate, low, high in shares]
        elsewhere = f"{each['elsewhere']['passed']} of {each['elsewhere']['maps']} pass"
        table.add_row(pair, *said, elsewhere, ", ".join(each["stopped_by"]))
    console.print(f"{figures['phantoms']} phantoms with both classes found")
    console.print(table)


if __name__ == "__main__":
    main()
