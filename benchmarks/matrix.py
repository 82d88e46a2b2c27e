"""Every explainer on every network of the matrix, written down as docs/explainers-matrix.md.

    python -m benchmarks.matrix [--networks NAME ...] [--methods NAME ...] [--out FILE]

Exits with 1 if any cell is neither a map that may stand nor refused for a reason of the graph.
"""

import argparse
import importlib.metadata
import math
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import track

from benchmarks.cells import REFUSALS, Cell, Outcome, cell_of, methods, parameters_of
from benchmarks.networks import MATRIX, Specimen

PAGE = Path(__file__).parents[1] / "docs" / "explainers-matrix.md"
#: (network, method) to what came out.
Cells = Mapping[tuple[str, str], Cell]

_HEAD = """\
# Every explainer on every network

Made by `make matrix`; do not edit by hand. With {versions}.

A row is a method, a column a network of MONAI with random weights, as `benchmarks/networks.py`
makes them, at the extents below its name. A cell says

- *ok*: the map is finite, not constant and on the grid of the input;
- *≤ 1e-6*: the same, and the method has an axiom (its values sum to what they should), which it
  misses by so much, relative, rounded up to a power of ten;
- *≤ 1e-1 w*: it misses it by more than 1 % and says so in a warning that comes with the map;
- *n/a* and a letter: not applicable, for the reason below the tables. The method refuses with
  {errors};
- *FAILED*: anything else.

What is explained is the logit of class 1, or the mean logit of segment 1 over its outline. Methods
run with their defaults, but for those that repeat many passes: they make enough of them here to
show that they work, not to add up or to make a good map. Class activation maps are not cut at zero:
of random weights nothing at all may speak for a class.
"""


def main() -> None:
    arguments = argparse.ArgumentParser(prog="python -m benchmarks.matrix", description=__doc__)
    arguments.add_argument("--networks", nargs="+", choices=MATRIX, default=list(MATRIX))
    arguments.add_argument("--methods", nargs="+", choices=methods(), default=list(methods()))
    arguments.add_argument("--out", type=Path, default=PAGE, help="page to write (%(default)s)")
    asked = arguments.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    specimens = [MATRIX[name] for name in asked.networks]
    cells = filled(specimens, asked.methods)
    asked.out.write_text(page(cells, specimens, asked.methods), encoding="utf-8")
    failed = [each for each in cells.values() if each.outcome is Outcome.FAILED]
    console = Console(soft_wrap=True)
    for each in failed:
        console.print(f"{each.network}, {each.method}: {each.why}", markup=False)
    console.print(f"{len(cells)} cells, {len(failed)} failed; wrote {asked.out}")
    sys.exit(1 if failed else 0)


def filled(specimens: Sequence[Specimen], names: Iterable[str]) -> dict[tuple[str, str], Cell]:
    """Return every cell; one network at a time is in memory."""
    cells = {}
    for specimen in track(specimens, "networks", console=Console(stderr=True)):
        subject = specimen.subject(specimen.small)
        for name in names:
            cells[specimen.name, name] = cell_of(subject, name)
    return cells


def page(cells: Cells, specimens: Sequence[Specimen], names: Sequence[str]) -> str:
    """Return the page of these cells, Markdown."""
    errors = " or ".join(sorted({f"`{each.error.__name__}`" for each in REFUSALS}))
    classifiers = [each for each in specimens if each.kind == "classifier"]
    others = [each for each in specimens if each.kind != "classifier"]
    parts = [_HEAD.format(versions=_versions(), errors=errors)]
    if classifiers:
        parts.append("## Classifiers\n\n" + _table(cells, classifiers, names))
    if others:
        parts.append(
            "## Segmentation networks, and a bag of images\n\n" + _table(cells, others, names)
        )
    parts += [_reasons(cells), _failures(cells), _settings(names)]
    return "\n".join(part for part in parts if part)


def _table(cells: Cells, specimens: Sequence[Specimen], names: Sequence[str]) -> str:
    heads = [f"{each.name}<br>{' x '.join(map(str, each.small))}" for each in specimens]
    rows = [["", *heads], ["---"] * (len(heads) + 1)]
    rows += [
        [f"`{name}`", *(_shown(cells[each.name, name]) for each in specimens)] for name in names
    ]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _shown(cell: Cell) -> str:
    if cell.outcome is Outcome.FAILED:
        return "FAILED"
    if cell.outcome is Outcome.NOT_APPLICABLE:
        return f"n/a {_letter(cell.why)}"
    if cell.residual is None:
        return "ok"
    bound = 10.0 ** math.ceil(math.log10(max(cell.residual, 1e-12)))
    return f"≤ {bound:.0e}{' w' if cell.residual > 0.01 else ''}"


def _letter(why: str) -> str:
    return "abcdefgh"[[each.why for each in REFUSALS].index(why)]


def _reasons(cells: Cells) -> str:
    used = {each.why for each in cells.values() if each.outcome is Outcome.NOT_APPLICABLE}
    lines = [f"- {_letter(why)}: {why}\n" for why in sorted(used, key=_letter)]
    return "## Why not applicable\n\n" + "".join(lines) if lines else ""


def _failures(cells: Cells) -> str:
    failed = [each for each in cells.values() if each.outcome is Outcome.FAILED]
    lines = [f"- `{each.method}` on {each.network}: {each.why}\n" for each in failed]
    return "## What failed\n\n" + "".join(lines) if lines else ""


def _settings(names: Sequence[str]) -> str:
    rows = [f"| `{name}` | {', '.join(_differing(name))} |\n" for name in names]
    table = "| method | parameters here (default) |\n| --- | --- |\n" + "".join(
        row for name, row in zip(names, rows, strict=True) if parameters_of(name)
    )
    return "## What is not the default\n\n" + table


def _differing(name: str) -> Iterator[str]:
    default = methods()[name]()
    for parameter, value in parameters_of(name).items():
        yield f"{parameter} = {value} ({getattr(default, parameter)})"


def _versions() -> str:
    found = {
        name: importlib.metadata.version(name.lower()) for name in ("Pellucid", "torch", "MONAI")
    }
    return ", ".join(f"{name} {version.split('+')[0]}" for name, version in found.items())


if __name__ == "__main__":
    main()
