"""What explaining costs, in forward passes of the network (F), beside captum, MONAI and shap.

    python -m benchmarks.explainers [--networks NAME ...] [--methods NAME ...] [--resume]

Every method on every network of the matrix, one thread, counted in its processor time: see
``benchmarks.measuring``. Methods that repeat many passes make few here; the costs of their defaults
follow from the number of passes. Writes after every method, so that ``--resume`` can go on.
"""

import argparse
import importlib.metadata
import os
import platform
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks import records, tables
from benchmarks.cells import methods
from benchmarks.measuring import Patience
from benchmarks.networks import MATRIX
from benchmarks.peers import PEERS, Peer
from benchmarks.rounds import Round

RESULTS = Path(__file__).parent / "results" / "explainers.json"
_LIBRARIES = ("pellucid", "torch", "monai", "captum", "shap")


def main(words: Sequence[str] | None = None) -> None:
    asked = _arguments().parse_args(words)
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    session = records.Session(conditions=_conditions(asked))
    if asked.resume and asked.json.exists():
        session = _resumed(session, asked.json)
    with _progress() as progress:
        everything = progress.add_task("networks", total=len(asked.networks))
        for index, name in enumerate(asked.networks):
            for share, label in _measured(name, asked, session):
                records.save(session, asked.json)
                progress.update(everything, completed=index + share, description=label)
    console = Console(width=None if asked.width == 0 else asked.width)
    tables.show(session, console)
    console.print(f"wrote {asked.json}")


def _arguments() -> argparse.ArgumentParser:
    known = [*records.SESSIONS, *methods(), *(each.name for each in PEERS)]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.explainers", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--networks", nargs="+", choices=MATRIX, default=list(MATRIX))
    parser.add_argument(
        "--methods", nargs="+", metavar="NAME", choices=known, help="ours, and those beside them"
    )
    extents = parser.add_mutually_exclusive_group()
    for name in ("small", "usual", "full"):
        extents.add_argument(
            f"--{name}", dest="extents", action="store_const", const=name, help=f"{name} extents"
        )
    parser.set_defaults(extents="usual")
    parser.add_argument("--rounds", type=int, default=3, help="most repetitions (%(default)s)")
    parser.add_argument("--seconds", type=float, default=1.0, help="for each (%(default)s)")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:1 (%(default)s)")
    parser.add_argument(
        "--batch", type=int, default=0, help="also this many at once in half precision (0: not)"
    )
    parser.add_argument("--resume", action="store_true", help="keep what the file has")
    parser.add_argument("--json", type=Path, default=RESULTS, help="file (%(default)s)")
    parser.add_argument("--width", type=int, default=0, help="of the tables; 0: the terminal's")
    return parser


def _measured(
    name: str, asked: argparse.Namespace, session: records.Session
) -> Iterator[tuple[float, str]]:
    """Measure what is due of one network; yield the share that is done, and what it was."""
    ours, peers = _due(name, asked, session)
    if not ours and not peers:
        return
    now = Round.of(
        MATRIX[name],
        extents=asked.extents,
        device=asked.device,
        patience=Patience(rounds=asked.rounds, seconds=asked.seconds),
        batch=asked.batch,
    )
    total = len(ours) + len(peers)
    for done, method in enumerate(ours, 1):
        session.add(now.all_cams(method) if method in records.SESSIONS else now.ours(method))
        yield done / total, f"{name}: {method}"
    for done, peer in enumerate(peers, len(ours) + 1):
        session.add(now.theirs(peer))
        yield done / total, f"{name}: {peer.library} {peer.name}"


def _due(
    name: str, asked: argparse.Namespace, session: records.Session
) -> tuple[list[str], list[Peer]]:
    """Return what is asked for and not measured yet: ours, and theirs."""

    def wanted(*names: str) -> bool:
        return not asked.methods or any(each in asked.methods for each in names)

    known = session.records
    ours = [
        each
        for each in (*records.SESSIONS, *methods())
        if wanted(each) and (name, records.OURS, each) not in known
    ]
    peers = [
        each
        for each in PEERS
        if wanted(each.name, each.rival) and (name, each.library, each.name) not in known
    ]
    return ours, peers


def _conditions(asked: argparse.Namespace) -> dict[str, Any]:
    return {
        "extents": asked.extents,
        "device": asked.device,
        "rounds": asked.rounds,
        "seconds": asked.seconds,
        "batch": asked.batch,
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        **{name: _version(name) for name in _LIBRARIES},
    }


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _resumed(session: records.Session, path: Path) -> records.Session:
    """Return what the file has, if it was measured under the same conditions."""
    kept = records.load(path)
    if kept.conditions == session.conditions:
        return kept
    changed = [
        f"{name} was {kept.conditions.get(name)}, is {value}"
        for name, value in session.conditions.items()
        if kept.conditions.get(name) != value
    ]
    raise SystemExit(f"{path} was measured under other conditions: {'; '.join(changed)}")


def _progress() -> Progress:
    return Progress(
        BarColumn(20),
        TextColumn("{task.completed:.1f}/{task.total:.0f}"),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
        console=Console(stderr=True),
    )


if __name__ == "__main__":
    main()
