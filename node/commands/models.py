"""``pellucid models``: which models there are, and the file that describes a new one."""

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ai.errors import ModelUnavailableError
from ai.settings import IntendedUse, ModelSettings
from dicom_io.codes import Code
from node.commands.analyze import bundle_settings
from node.commands.card_folder import card_lines, keep_reliability, with_card
from node.commands.output import MisuseError, progress_bar
from node.commands.setting import existing_folder
from node.config import Config, built_in_models
from node.config_types import plain_name
from node.plugins import load_model


def model_rows(config: Config) -> list[dict[str, object]]:
    """Return one row for each model of the configuration."""
    return [
        {
            "model": settings.name,
            "kind": settings.kind,
            "bundle": settings.bundle or "",
            "trusted": settings.trusted,
            "files": len(settings.sha256),
            "routes": ", ".join(
                route.name
                for route in config.routes
                if any(step.model == settings.name for step in route.steps)
            ),
        }
        for settings in config.models.values()
    ]


def verification_rows(models: Mapping[str, ModelSettings]) -> list[dict[str, object]]:
    """Return one row for each model: whether every file is as listed, and whether it loads."""
    with progress_bar() as bar:
        task = bar.add_task("loading models", total=len(models), detail="")
        return [_verification_row(models[name]) for name in bar.track(models, task_id=task)]


def _verification_row(settings: ModelSettings) -> dict[str, object]:
    try:
        model = load_model(settings)
    except ModelUnavailableError as error:
        return {"model": settings.name, "loads": False, "words": str(error)}
    words = f"version {model.card.version}, weights {model.card.weights_sha256[:12]}"
    if model.reliability is not None:
        words += f", reliability fitted on {model.reliability.cases} cases"
    return {"model": settings.name, "loads": True, "words": words}


def described_model(settings: ModelSettings) -> dict[str, Any]:
    """Return all that the configuration says of a model."""
    fitted = settings.reliability
    return {
        "name": settings.name,
        "kind": settings.kind,
        "bundle": str(settings.bundle or ""),
        "trusted": settings.trusted,
        "threshold": settings.threshold,
        "temperature": settings.temperature,
        "explainer": {}
        if settings.explainer is None
        else {"method": settings.explainer.method, **settings.explainer.parameters},
        "gate": dict(settings.gate),
        "reliability": {}
        if fitted is None
        else {"file": str(fitted.file), "sha256": fitted.sha256},
        "labels": {
            str(channel): f"{code.meaning} ({code.value}, {code.scheme})"
            for channel, code in settings.labels.items()
        },
        "intended_use": _intended_use(settings.intended_use),
        "sha256": dict(settings.sha256),
    }


def add_model(
    bundle: Path, folder: Path, *, name: str | None, trusted: bool, card: Path | None = None
) -> Path:
    """Write ``models/NAME.toml`` for a bundle into a configuration folder, and return the file.

    Parameters
    ----------
    name
        What routes will call it; None for the name of the bundle's folder.
    card
        Folder that ``pellucid validate`` wrote of this bundle: what it proposes is taken over.

    Raises
    ------
    MisuseError
        The name cannot be one, or is taken: what a person has reviewed is not overwritten; the
        card is none, or another model's.
    ModelUnavailableError
        It is no MONAI bundle.
    """
    called = _name(existing_folder(bundle), name)
    # Describing a bundle runs none of it: trust is asked for only to be written down.
    settings = replace(bundle_settings(bundle, trusted=True), name=called)
    file = folder / "models" / f"{settings.name}.toml"
    if file.exists():
        raise MisuseError(f"{file} exists; review it, and remove it to write it anew")
    if card is not None:
        settings = with_card(settings, card)
    file.parent.mkdir(parents=True, exist_ok=True)
    settings = keep_reliability(settings, file.parent)
    file.write_text(model_toml(settings, trusted=trusted), encoding="utf-8")
    return file


def model_toml(settings: ModelSettings, *, trusted: bool) -> str:
    """Return the settings as the text of a file in ``models``."""
    lines = [
        "# Written by `pellucid models add` from what the bundle says of itself.",
        "# Review labels and intended use, and set the operating point before use.",
        "[model]",
        f"name = {_quoted(settings.name)}",
        f"bundle = {_quoted(str(settings.bundle))}",
        "# A bundle's configuration is a program: read it, then say that you trust it.",
        f"trusted = {str(trusted).lower()}",
        "",
        "[model.operating_point]",
        f"threshold = {settings.threshold}",
        f"temperature = {settings.temperature}",
        *card_lines(settings),
        "",
        "[model.intended_use]",
        *(f"{key} = {json.dumps(value)}" for key, value in _asked(settings.intended_use).items()),
        "",
        "# The network's channel and what it stands for.",
        "[model.labels]",
        *(f"{channel} = {_code(code)}" for channel, code in settings.labels.items()),
        "",
        "[model.sha256]",
        *(f"{_quoted(name)} = {_quoted(digest)}" for name, digest in settings.sha256.items()),
    ]
    return "\n".join(lines) + "\n"


def _name(bundle: Path, asked: str | None) -> str:
    suggested = re.sub(r"[^A-Za-z0-9_.-]+", "-", bundle.resolve().name).strip("-_.")
    try:
        name = plain_name(suggested if asked is None else asked)
    except ValueError as error:
        raise MisuseError(f"--name: {error}") from error
    if name in built_in_models():
        raise MisuseError(f"--name: {name!r} is built in; choose another name")
    return name


def _asked(use: IntendedUse) -> dict[str, Any]:
    return {key: value for key, value in _intended_use(use).items() if value}


def _intended_use(use: IntendedUse) -> dict[str, Any]:
    return {
        "modality": list(use.modality),
        "body_part": list(use.body_part),
        "age_years": list(use.age_years or ()),
        "spacing_mm": list(use.spacing_mm or ()),
        "text": use.text,
    }


def _code(code: Code) -> str:
    meaning, value, scheme = (_quoted(text) for text in (code.meaning, code.value, code.scheme))
    return f"{{ meaning = {meaning}, code = {value}, scheme = {scheme} }}"


def _quoted(text: str) -> str:
    """Return a basic string of TOML, which escapes as JSON does."""
    return json.dumps(text)
