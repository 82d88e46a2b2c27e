"""How well the phantom model finds its lesions, and its default explainer shows them.

    python -m benchmarks.phantom [--seeds 200] [--first 600000] [--json FILE]

Every seed is one phantom that training never saw. Beside the model stand classifiers by thresholds
on brightness, beside the explainer maps that know nothing of the model.
"""

import argparse
import json
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from functools import cache
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from ai.explainers.cam import LayerCAM
from ai.explainers.lrp import LRP
from ai.model import ModelSettings
from ai.models.phantom import WEIGHTS_SHA256, PhantomModel, load
from ai.phantom.figures import Reading, mean_localizations, read_phantom, threshold_area
from ai.phantom.make import make_phantom
from ai.reliability.discrimination import area_under_curve

RESULTS = Path(__file__).parent / "results" / "phantom.json"
EXPLAINERS = {"layer_cam": LayerCAM(), "lrp": LRP()}


@cache
def model() -> PhantomModel:
    torch.set_num_threads(1)
    return load(ModelSettings(name="phantom", kind="phantom"))


def read(seed: int) -> Reading:
    return read_phantom(make_phantom(seed), model(), EXPLAINERS, np.random.default_rng(seed))


def measured(readings: list[Reading]) -> dict:
    truths = [each.has_lesion for each in readings]
    called = [each.probability >= 0.5 for each in readings]
    best, threshold = threshold_area(readings)
    return {
        "phantoms": len(readings),
        "with_lesion": sum(truths),
        "auc": area_under_curve([each.logit for each in readings], truths),
        "sensitivity": float(np.mean([c for c, t in zip(called, truths, strict=True) if t])),
        "specificity": float(
            np.mean([not c for c, t in zip(called, truths, strict=True) if not t])
        ),
        "threshold_auc": threshold,
        "threshold_statistic": best,
        "maps": {name: asdict(each) for name, each in mean_localizations(readings).items()},
    }


def show(figures: dict, console: Console) -> None:
    console.print(
        f"{figures['phantoms']} phantoms, {figures['with_lesion']} with a lesion: "
        f"AUC {figures['auc']:.3f}, sensitivity {figures['sensitivity']:.3f}, "
        f"specificity {figures['specificity']:.3f} at probability 0.5; best threshold on "
        f"brightness ({figures['threshold_statistic']}): AUC {figures['threshold_auc']:.3f}"
    )
    table = Table("map", "pointing", "mass accuracy", "rank accuracy")
    for name, values in figures["maps"].items():
        table.add_row(name, *(f"{value:.3f}" for value in values.values()))
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.phantom", description=__doc__)
    parser.add_argument("--seeds", type=int, default=200, help="how many phantoms (%(default)s)")
    parser.add_argument("--first", type=int, default=600_000, help="first seed (%(default)s)")
    parser.add_argument("--json", type=Path, default=RESULTS, help="file to write (%(default)s)")
    parser.add_argument("--workers", type=int, default=1, help="processes (%(default)s)")
    asked = parser.parse_args()
    started = time.perf_counter()
    seeds = range(asked.first, asked.first + asked.seeds)
    with ProcessPoolExecutor(asked.workers, mp_context=get_context("spawn")) as pool:
        readings = list(track(pool.map(read, seeds), "phantoms", total=asked.seeds))
    seconds = (time.perf_counter() - started) / asked.seeds
    figures = measured(readings) | {
        "first_seed": asked.first,
        "weights_sha256": WEIGHTS_SHA256,
        "seconds_per_phantom": round(seconds, 2),
    }
    show(figures, Console())
    asked.json.parent.mkdir(parents=True, exist_ok=True)
    asked.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
