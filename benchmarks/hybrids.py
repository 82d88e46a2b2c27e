"""What an explanation by construction costs: an evidence head beside a black box.

    python -m benchmarks.hybrids --work DIR [--steps 2600] [--annotated 10 50 200] [--device cuda]

Trains both on the same backbone, heads and labels (``benchmarks.hybrid_training``), then shows them
phantoms that neither has seen. What was made, trained and read is kept in DIR: a run that was
stopped goes on where it was, the same seed gives the same weights on one machine.
"""

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from torch import nn

from ai.explainers.cam import GradCAM, HiResCAM, LayerCAM
from ai.explainers.deeplift import DeepLIFT
from ai.explainers.input_x_gradient import InputXGradient
from ai.explainers.integrated_gradients import IntegratedGradients
from ai.explainers.lrp import LRP
from ai.hybrids.explainer import Evidence
from ai.model import Explainer, Prepared
from ai.phantom.figures import Localization, localization
from ai.phantom.head import prepare_head
from ai.phantom.make import Phantom, make_phantom
from ai.prepare import to_source_grid
from ai.quality.controls import intensity_map, random_map, sobel_map
from ai.reliability.discrimination import area_under_curve, bootstrap_roc
from ai.targets import ClassLogit
from benchmarks.hybrid_training import Arm, Plan, arms, make_cases, train

RESULTS = Path(__file__).parent / "results" / "hybrids.json"
#: What explains a network that does not explain itself; the last with few steps.
POST_HOC: dict[str, Explainer] = {
    "layer_cam": LayerCAM(),
    "hires_cam": HiResCAM(),
    "grad_cam": GradCAM(),
    "lrp": LRP(),
    "deeplift": DeepLIFT(),
    "input_x_gradient": InputXGradient(),
    "integrated_gradients": IntegratedGradients(most_steps=16),
}
#: Phantoms that are made while others are read.
_AHEAD = 16


@dataclass(frozen=True, kw_only=True)
class MapFigures:
    """What one map of one phantom is worth."""

    place: Localization
    residual: float | None
    #: Time of the explanation over that of the prediction.
    forwards: float


def main(words: Sequence[str] | None = None) -> None:
    asked = _arguments().parse_args(words)
    torch.set_num_threads(1)
    compared = arms(asked.annotated)
    plan = Plan(cases=asked.cases, steps=asked.steps, seed=asked.seed)
    with (
        _makers(asked.workers) as pool,
        _progress() as progress,
    ):
        lesions = make_cases(plan.cases, asked.work / "heads", pool, progress)
        networks = {
            arm: train(arm, plan, lesions, work=asked.work, progress=progress, device=asked.device)
            for arm in compared
        }
        rows = list(_readings(networks, plan, asked, pool, progress))
    shown = [row["controls"] for row in rows if row["controls"]]
    figures = {
        "plan": asdict(plan),
        "first_seed": asked.first,
        "phantoms": asked.seeds,
        "device": asked.device,
        "arms": {arm.name: _figures(arm, rows) for arm in compared},
        "controls": {name: _mean([each[name] for each in shown]) for name in (shown or [{}])[0]},
    }
    _show(figures, Console())
    asked.json.parent.mkdir(parents=True, exist_ok=True)
    asked.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.hybrids",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--work", type=Path, required=True, help="folder for what is kept")
    parser.add_argument("--cases", type=int, default=600, help="training heads (%(default)s)")
    parser.add_argument("--steps", type=int, default=2600, help="of each network (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of weights, batches (%(default)s)")
    parser.add_argument(
        "--annotated",
        type=int,
        nargs="*",
        default=[10, 50, 200],
        help="outlined lesions (10 50 200)",
    )
    parser.add_argument("--seeds", type=int, default=200, help="phantoms shown (%(default)s)")
    parser.add_argument("--first", type=int, default=650_000, help="their first (%(default)s)")
    parser.add_argument(
        "--methods", nargs="+", choices=POST_HOC, default=list(POST_HOC), help="for the black box"
    )
    parser.add_argument("--maps", type=int, default=40, help="lesions explained (%(default)s)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (%(default)s)")
    parser.add_argument("--workers", type=int, default=1, help="that make phantoms (%(default)s)")
    parser.add_argument("--json", type=Path, default=RESULTS, help="file to write (%(default)s)")
    return parser


def _makers(workers: int) -> Executor:
    """Return what makes phantoms: a thread beside the work, or processes."""
    if workers == 1:
        return ThreadPoolExecutor(1)
    # Threads of torch in many processes would wait for each other.
    return ProcessPoolExecutor(workers, get_context("spawn"), torch.set_num_threads, (1,))


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    )


def _readings(
    networks: dict[Arm, nn.Module],
    plan: Plan,
    asked: argparse.Namespace,
    pool: Executor,
    progress: Progress,
) -> Iterator[dict]:
    """Yield what all networks say of each phantom, those first that are on file."""
    file = asked.work / "readings.jsonl"
    setting = json.dumps(
        [asdict(plan), [arm.name for arm in networks], asked.first, asked.maps, asked.methods]
    )
    kept = (
        [json.loads(line) for line in file.read_text("utf-8").splitlines()] if file.exists() else []
    )
    kept = [row for row in kept if row["setting"] == setting][: asked.seeds]
    yield from kept
    explained = sum(bool(row["controls"]) for row in kept)
    task = progress.add_task("phantoms", total=asked.seeds, completed=len(kept))
    with file.open("a", encoding="utf-8") as stream:
        for seed, phantom in _phantoms(
            range(asked.first + len(kept), asked.first + asked.seeds), pool
        ):
            show = phantom.has_lesion and explained < asked.maps
            methods = {name: POST_HOC[name] for name in asked.methods} if show else {}
            row = {"setting": setting, "seed": seed}
            row |= read(phantom, networks, methods, device=asked.device, seed=seed)
            explained += show
            stream.write(json.dumps(row) + "\n")
            stream.flush()
            progress.advance(task)
            yield row


def _phantoms(seeds: range, pool: Executor) -> Iterator[tuple[int, Phantom]]:
    """Yield phantoms by their seeds, a few made ahead: each takes 15 MB."""
    for first in range(0, len(seeds), _AHEAD):
        few = seeds[first : first + _AHEAD]
        yield from zip(few, pool.map(make_phantom, few), strict=True)


def read(
    phantom: Phantom,
    networks: dict[Arm, nn.Module],
    methods: dict[str, Explainer],
    *,
    device: str,
    seed: int,
) -> dict:
    """Return the logits of all networks and, if methods are named, figures of all maps.

    Parameters
    ----------
    methods
        For networks that do not explain themselves.
    """
    prepared = prepare_head(phantom.volume)
    logits, maps, controls = {}, {}, {}
    for arm, network in networks.items():
        started = time.perf_counter()
        with torch.no_grad():
            logits[arm.name] = float(network(prepared.tensor.to(device)))
        seconds = time.perf_counter() - started
        explained = partial(_explained, network, prepared, phantom, device, seconds)
        explainers = {"evidence": Evidence()} if arm.hybrid else methods
        maps[arm.name] = {
            name: asdict(explained(each)) for name, each in explainers.items() if methods
        }
    if methods:
        controls = {
            name: asdict(localization(each, phantom.truth))
            for name, each in _controls(phantom.volume.voxels[0], seed).items()
        }
    return {"has_lesion": phantom.has_lesion, "logits": logits, "maps": maps, "controls": controls}


def _controls(image: NDArray[np.float32], seed: int) -> dict[str, NDArray[np.float32]]:
    return {
        "random": random_map(image.shape, np.random.default_rng(seed)),
        "sobel": sobel_map(image),
        "intensity": intensity_map(image),
    }


def _explained(
    network: nn.Module,
    prepared: Prepared,
    phantom: Phantom,
    device: str,
    seconds: float,
    explainer: Explainer,
) -> MapFigures:
    started = time.perf_counter()
    found = explainer.explain(network, prepared.tensor.to(device), ClassLogit(0))
    values = found.values.cpu()
    taken = time.perf_counter() - started
    relevance = to_source_grid(values[0], prepared).sum(axis=0)
    return MapFigures(
        place=localization(relevance, phantom.truth),
        residual=None if found.residual is None else float(found.residual.max()),
        forwards=taken / seconds,
    )


def _figures(arm: Arm, rows: list[dict]) -> dict:
    truths = [row["has_lesion"] for row in rows]
    logits = [row["logits"][arm.name] for row in rows]
    band = bootstrap_roc(logits, truths, generator=np.random.default_rng(0))
    shown = [row["maps"][arm.name] for row in rows if row["maps"][arm.name]]
    return {
        "hybrid": arm.hybrid,
        "annotated": arm.annotated,
        "auc": area_under_curve(logits, truths),
        "auc_95": [band.area_low, band.area_high],
        "maps": {name: _map_figures([row[name] for row in shown]) for name in (shown or [{}])[0]},
    }


def _map_figures(figures: list[dict]) -> dict:
    residuals = [each["residual"] for each in figures if each["residual"] is not None]
    return _mean([each["place"] for each in figures]) | {
        "greatest_residual": max(residuals, default=None),
        "forwards": float(np.median([each["forwards"] for each in figures])),
    }


def _mean(places: list[dict]) -> dict:
    if not places:
        return {}
    masses = np.array([each["mass_accuracy"] for each in places])
    drawn = np.random.default_rng(0).choice(masses, (2000, len(masses))).mean(axis=1)
    means = {name: float(np.mean([each[name] for each in places])) for name in places[0]}
    return means | {"mass_95": np.quantile(drawn, [0.025, 0.975]).tolist()}


def _show(figures: dict, console: Console) -> None:
    table = Table("map", "mass (95 %)", "rank", "pointing", "residual", "forwards")
    for arm, values in figures["arms"].items():
        low, high = values["auc_95"]
        table.add_row(f"{arm}: AUC {values['auc']:.3f} ({low:.3f} to {high:.3f})", style="bold")
        for name, each in values["maps"].items():
            table.add_row(name, *_cells(each))
    table.add_row("without any network", style="bold")
    for name, each in figures["controls"].items():
        table.add_row(name, *_cells(each))
    console.print(table)


def _cells(figures: dict) -> list[str]:
    low, high = figures["mass_95"]
    residual, forwards = figures.get("greatest_residual"), figures.get("forwards")
    return [
        f"{figures['mass_accuracy']:.3f} ({low:.3f} to {high:.3f})",
        f"{figures['rank_accuracy']:.3f}",
        f"{figures['pointing']:.2f}",
        "" if residual is None else f"{residual:.1e}",
        "" if forwards is None else f"{forwards:.1f}",
    ]


if __name__ == "__main__":
    main()
