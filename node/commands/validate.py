"""``pellucid validate``: known cases through a model and its explainers, to a card."""

import json
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ai.settings import ModelSettings
from dicom_io.truth.folder import (
    TruthFolder,
    files_of,
    labels_of,
    names_of,
    read_truth_folder,
)
from node.commands.analyze import bundle_settings, explain_specs
from node.commands.output import (
    FindingError,
    MisuseError,
    counted,
    print_table,
    print_text,
    progress_bar,
)
from node.commands.setting import existing_folder, named_model
from node.commands.study_folder import image_series, read_study_folder
from node.config import Config
from node.plugins import load_explainer, load_model

if TYPE_CHECKING:
    from ai.card.cases import Candidate, CardSettings, KnownCase
    from ai.card.records import CaseRecord
    from ai.card.summary import Card, Provenance

_PACKAGES = ("pellucid", "torch", "monai", "numpy", "highdicom")
#: What plots and page are made with, and only here.
_CARD_PACKAGES = ("matplotlib", "jinja2")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is asked of one model."""

    model: ModelSettings
    data: Path
    truth: Path | None
    out: Path
    #: Explainers as the command line has them; empty: those that the network allows.
    explainers: tuple[str, ...] = ()
    seed: int = 0
    curve_cases: int = 12
    randomized_cases: int = 3
    #: Only what takes no pass beyond prediction and explanation.
    quick: bool = False


def model_settings(model: str, config: Config, *, trusted: bool) -> ModelSettings:
    """Return the settings of a configured model, or of the bundle in a folder.

    Raises
    ------
    MisuseError
        It is neither, or the bundle is not trusted.
    ModelUnavailableError
        The folder is no MONAI bundle.
    """
    if model not in config.models and Path(model).is_dir():
        return bundle_settings(Path(model), trusted=trusted)
    return named_model(model, config.models)


def validate(wanted: Wanted) -> "Card":
    """Read every case, write the card into the folder and return it; goes on where it stopped.

    Raises
    ------
    MisuseError
        A folder is missing or of something else; no series suits; no such explainer.
    ModelUnavailableError
        The model cannot be loaded.
    FindingError
        No case could be used, or the work was interrupted.
    """
    _require_packages()
    from ai.card.build import read_cases
    from ai.card.reading import Reader
    from ai.card.write import JOURNAL, write_card

    cases, truths, unmatched = known_cases(wanted)
    model = load_model(wanted.model)
    settings = card_settings(wanted, lambda each: _applicable(each, model, cases))
    _prepare_folder(wanted.out, JOURNAL)
    with progress_bar() as bar:
        task = bar.add_task("reading cases", total=len(cases), detail="")
        reader = Reader(
            model=model,
            settings=settings,
            truths=truths,
            clock=time.perf_counter,
            told=lambda what: bar.update(task, detail=what),
        )

        def report(done: int, record: "CaseRecord", known: bool) -> None:
            del known
            bar.update(task, completed=done)
            if record.problem:
                bar.console.print(f"left out {record.case}: {record.problem}", style="yellow")

        try:
            records = read_cases(cases, reader, wanted.out / JOURNAL, report=report)
            _require_some(records)
            bar.update(task, description="writing the card")
            return write_card(
                records, cases, reader, _provenance(wanted), wanted.out, unmatched=unmatched
            )
        except KeyboardInterrupt:
            raise FindingError("interrupted; the same command goes on where it stopped") from None


def known_cases(
    wanted: Wanted,
) -> "tuple[tuple[KnownCase, ...], TruthFolder, tuple[str, ...]]":
    """Return the cases with their truths, the folder of these, and the truths of no case.

    Raises
    ------
    MisuseError
        No series suits, or a NIfTI file is named after a study of several.
    TruthError
        The table of labels cannot be read.
    """
    from ai.card.cases import KnownCase

    found = read_study_folder(wanted.data)
    modalities = wanted.model.intended_use.modality
    series = [
        each.series
        for each in image_series(found.instances)
        if not modalities or each.modality in modalities
    ]
    if not series:
        raise MisuseError(f"no series is {' or '.join(modalities) or 'an image'} in {wanted.data}")
    truths = TruthFolder()
    if wanted.truth is not None:
        truths = read_truth_folder(existing_folder(wanted.truth))
    cases = tuple(
        KnownCase(series=each, files=files_of(each, truths), labels=labels_of(each, truths))
        for each in series
    )
    return cases, truths, _unmatched(cases, truths)


def card_settings(wanted: Wanted, applicable: Any) -> "CardSettings":
    """Return how closely the cases are looked at, and by which explainers.

    Raises
    ------
    MisuseError
        There is no such explainer.
    PluginError
        It has no such parameter.
    """
    from ai.card.candidates import DEFAULT_METHODS
    from ai.card.cases import CardSettings

    asked = _explainers(wanted.explainers)
    candidates = candidates_of(asked or DEFAULT_METHODS)
    return CardSettings(
        candidates=candidates if asked else applicable(candidates),
        seed=wanted.seed,
        curve_cases=wanted.curve_cases,
        randomized_cases=wanted.randomized_cases,
        passes=not wanted.quick,
    )


def candidates_of(texts: Sequence[str]) -> "tuple[Candidate, ...]":
    """Return the explainers that words of the command line name; raises as ``card_settings``."""
    from ai.card.cases import Candidate

    for name, times in Counter(texts).items():
        if times > 1:
            raise MisuseError(f"--explainers names {name} {times} times")
    return tuple(
        Candidate(
            name=text,
            method=spec.method,
            parameters=dict(spec.parameters),
            explainer=load_explainer(spec.method, spec.parameters),
        )
        for text, spec in zip(texts, explain_specs(texts), strict=True)
    )


def print_card(card: "Card", folder: Path) -> None:
    """Print what was chosen and why, the explainers beside the controls, and where the card is."""
    from ai.card.words import interval_text, seconds_text, shown_name

    rows: list[dict[str, object]] = [
        {
            "map": shown_name(each.name),
            "cases": each.maps,
            "in the truth": interval_text(each.measures.get("mass")),
            "comprehensiveness": interval_text(each.measures.get("comprehensiveness")),
            "time": seconds_text(each.costs.seconds) if each.costs else "",
        }
        for each in card.explainers
        if each.maps
    ]
    print_table(f"Explainer card of {card.model.name}", rows, empty="no map was made")
    print_text("\n".join(card.choice.reasons))
    for each in card.warnings:
        print_text(f"note: {each}")
    print_text(f"{folder}: card.html, card.json, card.toml")


def require_all_used(card: "Card") -> None:
    """Refuse to call it well if cases could not be used: the card is written all the same.

    Raises
    ------
    FindingError
        Some could not.
    """
    if card.data.failures:
        first = next(iter(card.data.failures.values()))
        raise FindingError(
            f"{len(card.data.failures)} of {counted(card.data.cases, 'case')} could not be used, "
            f"as {first}"
        )


def _explainers(texts: Sequence[str]) -> tuple[str, ...]:
    """Return one text an explainer: plain names may be joined by commas."""
    return tuple(
        part.strip()
        for text in texts
        for part in ([text] if ":" in text else text.split(","))
        if part.strip()
    )


def _applicable(
    candidates: "Sequence[Candidate]", model: Any, cases: "Sequence[KnownCase]"
) -> "tuple[Candidate, ...]":
    from ai.card.candidates import applicable

    return applicable(candidates, model, cases)


def _unmatched(cases: "Sequence[KnownCase]", truths: TruthFolder) -> tuple[str, ...]:
    taken = Counter(each.path for case in cases for each in case.files)
    for case in cases:
        for each in case.files:
            if each.is_nifti and taken[each.path] > 1:
                raise MisuseError(
                    f"{each.path.name} could be the truth of {taken[each.path]} series: name it "
                    "after the Series Instance UID of one"
                )
    names = {name for case in cases for name in names_of(case.series)}
    return (
        *(each.path.name for each in truths.files if each.path not in taken),
        *(f"{name} of the table" for name in truths.table if name not in names),
        *truths.refused,
    )


def _prepare_folder(folder: Path, journal: str) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MisuseError(f"cannot write to {str(folder)!r}: {error.strerror}") from error
    strangers = [] if (folder / journal).exists() else [each.name for each in folder.iterdir()]
    if strangers:
        raise MisuseError(
            f"folder {str(folder)!r} holds other files ({strangers[0]}); give a new or empty one, "
            "or that of a card to go on with"
        )


def _require_some(records: "Sequence[CaseRecord]") -> None:
    if all(record.problem for record in records):
        raise FindingError(
            f"none of {counted(len(records), 'case')} could be used: {records[0].problem}"
        )


def _require_packages() -> None:
    missing = [name for name in _CARD_PACKAGES if not _is_there(name)]
    if missing:
        raise MisuseError(
            f"{' and '.join(missing)} are not installed: pip install 'pellucid[card]'"
        )


def _is_there(package: str) -> bool:
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        return False
    return True


def _provenance(wanted: Wanted) -> "Provenance":
    from ai.card.summary import Provenance

    versions = {"Python": sys.version.split()[0]}
    versions |= {name: metadata.version(name) for name in _PACKAGES}
    # Folders are left out: they are often called like patients.
    words = ["pellucid validate", wanted.model.name, "--data DIR"]
    words += ["--truth DIR"] if wanted.truth else []
    words += [f"--explainers {json.dumps(each)}" for each in wanted.explainers]
    words += ["--quick"] if wanted.quick else []
    words += [
        f"--curve-cases {wanted.curve_cases} --randomize {wanted.randomized_cases} "
        f"--seed {wanted.seed}"
    ]
    created = datetime.now(UTC).isoformat(timespec="seconds")
    return Provenance(created=created, versions=versions, command=" ".join(words))
