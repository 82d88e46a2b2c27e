"""What an explainer card proposes for a model's file, taken over by ``models add --card``."""

import hashlib
import json
import shutil
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ai.settings import DefaultExplainer, ModelSettings, ReliabilityFile
from node.commands.output import MisuseError
from node.commands.setting import existing_folder

SNIPPET, DOCUMENT = "card.toml", "card.json"


def with_card(settings: ModelSettings, card: Path) -> ModelSettings:
    """Return a bundle's settings with what its card proposes.

    Parameters
    ----------
    card
        Folder that ``pellucid validate`` wrote.

    Raises
    ------
    MisuseError
        It is no card, or one of other weights, or what was fitted is missing or was changed.
    """
    folder = existing_folder(card)
    model = _tables(folder)
    _require_same_weights(folder, settings)
    point = model.get("operating_point", {})
    return replace(
        settings,
        explainer=_explainer(model.get("explainer")),
        gate=dict(model.get("gate", {})),
        threshold=float(point.get("threshold", settings.threshold)),
        temperature=float(point.get("temperature", settings.temperature)),
        reliability=_reliability(folder, model.get("reliability")),
    )


def keep_reliability(settings: ModelSettings, models: Path) -> ModelSettings:
    """Return settings whose reliability lies beside the model's file, where it is copied to."""
    if settings.reliability is None:
        return settings
    kept = models / f"{settings.name}.reliability.npz"
    shutil.copyfile(settings.reliability.file, kept)
    return replace(settings, reliability=replace(settings.reliability, file=kept))


def card_lines(settings: ModelSettings) -> list[str]:
    """Return the tables that come from a card, as lines of TOML; none without one."""
    lines: list[str] = []
    if settings.explainer is not None:
        lines += ["", "# What explains it where a route names no explainer.", "[model.explainer]"]
        lines.append(f"method = {json.dumps(settings.explainer.method)}")
        lines += _pairs(settings.explainer.parameters)
    if settings.gate:
        lines += ["", "# Limits of its heatmaps; a route's own go before them.", "[model.gate]"]
        lines += _pairs(settings.gate)
    if settings.reliability is not None:
        file = f"models/{settings.reliability.file.name}"
        lines += ["", "# What was fitted on known cases.", "[model.reliability]"]
        lines += [f"file = {json.dumps(file)}", f'sha256 = "{settings.reliability.sha256}"']
    return lines


def _pairs(table: Mapping[str, Any]) -> list[str]:
    return [f"{key} = {json.dumps(value)}" for key, value in table.items()]


def _tables(folder: Path) -> dict[str, Any]:
    try:
        text = (folder / SNIPPET).read_text(encoding="utf-8")
        model = tomllib.loads(text).get("model", {})
    except FileNotFoundError as error:
        raise MisuseError(
            f"{str(folder)!r} holds no {SNIPPET}; make it with pellucid validate"
        ) from error
    except tomllib.TOMLDecodeError as error:
        raise MisuseError(f"{folder / SNIPPET} is not valid TOML: {error}") from error
    return dict(model)


def _require_same_weights(folder: Path, settings: ModelSettings) -> None:
    try:
        document = json.loads((folder / DOCUMENT).read_text(encoding="utf-8"))
        weights = str(document["model"]["weights_sha256"])
    except (FileNotFoundError, ValueError, KeyError, TypeError) as error:
        raise MisuseError(f"{folder / DOCUMENT} is missing or no card's") from error
    if weights not in settings.sha256.values():
        raise MisuseError(
            f"the card in {str(folder)!r} is of weights with sha256 {weights[:12]}..., which "
            "no file of the bundle has: validate this bundle"
        )


def _explainer(table: Mapping[str, Any] | None) -> DefaultExplainer | None:
    if table is None:
        return None
    parameters = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in table.items()
        if key != "method"
    }
    return DefaultExplainer(method=str(table["method"]), parameters=parameters)


def _reliability(folder: Path, table: Mapping[str, Any] | None) -> ReliabilityFile | None:
    if table is None:
        return None
    file = folder / str(table["file"])
    if not file.is_file():
        raise MisuseError(f"{SNIPPET} names {file.name}, which is not beside it")
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    if digest != table["sha256"]:
        raise MisuseError(f"{file} has sha256 {digest}, {SNIPPET} lists another: validate again")
    return ReliabilityFile(file=file, sha256=digest)
