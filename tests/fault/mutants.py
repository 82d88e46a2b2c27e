"""Mistakes that a change of the node could bring, each as a patch of its source."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.fault.points import ROOT


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """One mistake, and the words of the requirement that must find it."""

    name: str
    #: Of the repository, with slashes.
    file: str
    old: str
    new: str
    caught: str
    #: Given the folder of the changed packages: a trial that the repository's own pass.
    trial: Callable[..., None]
    #: At which point the trial kills, if it does.
    point: str = ""


def changed_packages(folder: Path, mutant: Mutant) -> Path:
    """Return a folder with a copy of the package that holds the mistake."""
    package = mutant.file.split("/")[0]
    shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    source = folder / mutant.file
    text = source.read_text()
    assert text.count(mutant.old) == 1, f"{mutant.name}: {mutant.file} has changed, patch it anew"
    source.write_text(text.replace(mutant.old, mutant.new))
    return folder
