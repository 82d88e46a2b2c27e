"""``pellucid analyze``: one series of a folder through one model, without any PACS."""

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, cast

from ai.settings import ModelSettings, Parameter
from dicom_io.origin import Origin
from dicom_io.select import Selector
from dicom_io.study import Series
from node.commands.output import MisuseError, progress_bar
from node.commands.setting import existing_folder, named_model
from node.commands.study_folder import Candidate
from node.config import (
    BudgetSettings,
    Config,
    ExplainSpec,
    Route,
    Step,
    config_hash,
    default_explain,
    plan_of,
)
from node.plugins import EXPLAINERS, names
from node.problems import nearest

if TYPE_CHECKING:
    from pydicom import Dataset

    from dicom_io.analysis import Analysis
    from dicom_io.read import Input

_STAGES: Mapping[str, str] = {
    "load": "loading the model",
    "read": "reading the images",
    "analyze": "predicting and explaining",
    "gate": "judging the explanations",
    "encode": "writing DICOM objects",
}
#: Ends of one ``name=value`` of several: a comma within brackets or quotes is not one.
_PAIR = re.compile(r"""(?:\[[^\]]*\]|"[^"]*"|'[^']*'|[^,])+""")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one analysis came to."""

    inputs: "tuple[Input, ...]"
    analyses: "tuple[Analysis, ...]"
    objects: "tuple[Dataset, ...]"


def explain_specs(
    texts: Sequence[str], model: ModelSettings | None = None
) -> tuple[ExplainSpec, ...]:
    """Return what ``--explain`` asks for: ``method`` or ``method:parameter=value,...``.

    ``of`` and ``against`` say what is explained, as in a route.

    No text is the model's default method; ``none`` alone asks for no explanation.

    Raises
    ------
    MisuseError
        There is no such method, or a parameter is not written as ``name=value``.
    """
    if list(texts) == ["none"]:
        return ()
    if not texts:
        return default_explain(model)
    return tuple(_explain_spec(text) for text in texts)


def chosen_model(
    name: str | None, bundle: Path | None, models: Mapping[str, ModelSettings], *, trusted: bool
) -> ModelSettings:
    """Return the settings of the model that ``--model`` or ``--bundle`` names.

    Raises
    ------
    MisuseError
        Neither or both are given; there is no such model or folder; the bundle is not trusted.
    ModelUnavailableError
        The folder is no MONAI bundle.
    """
    if name is not None and bundle is None:
        return named_model(name, models)
    if bundle is not None and name is None:
        return bundle_settings(existing_folder(bundle), trusted=trusted)
    raise MisuseError("give either --model NAME or --bundle DIR")


def bundle_settings(bundle: Path, *, trusted: bool) -> ModelSettings:
    """Return the settings of a bundle that no configuration lists, by what it says of itself.

    Raises
    ------
    MisuseError
        It is not trusted: its configuration is a program.
    ModelUnavailableError
        It is no MONAI bundle.
    """
    if not trusted:
        raise MisuseError(
            f"bundle {str(bundle)!r} can run code of its own; "
            "read its configs folder, then add --trust"
        )
    from ai.models.monai_bundle import describe_bundle

    described = describe_bundle(bundle)
    return ModelSettings(
        name=re.sub(r"[^A-Za-z0-9_.-]+", "-", described.name).strip("-") or bundle.name,
        bundle=bundle.absolute(),
        trusted=True,
        sha256=described.sha256,
        labels=described.labels,
        intended_use=described.intended_use,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is asked of one series."""

    model: ModelSettings
    explain: tuple[ExplainSpec, ...]
    #: Most forward passes of each explanation; None for as many as its method takes.
    forwards: int | None = None


def analyze_series(candidate: Candidate, wanted: Wanted, config: Config) -> Outcome:
    """Return findings, measured explanations and DICOM objects of one series.

    The model's name stands for the route in the identifiers of the objects: the same series
    and settings give the same identifiers again.

    Raises
    ------
    DicomInputError, UnsuitableInputError
        The series cannot be read, or is not what the model is meant for.
    ModelUnavailableError, PluginError
        The model or an explainer cannot be loaded.
    """
    from dicom_io.encode.objects import encode_analyses
    from node import pipeline
    from node.budget import analyze_settings
    from node.plugins import load_model

    config = replace(config, models={**config.models, wanted.model.name: wanted.model})
    route = _route(candidate.series, wanted)
    with progress_bar() as bar:
        task = bar.add_task("", total=None, detail="")

        @contextmanager
        def stage(name: str) -> Iterator[None]:
            bar.update(task, description=_STAGES[name], total=None, detail="")
            yield

        def report(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total, detail=f"{done / total:.0%}")

        with stage("load"):
            settings = analyze_settings(route.budget, report=report)
            plan = pipeline.load_plan(plan_of(config, route), load_model, settings)
        inputs, analyses = pipeline.release(candidate.study, plan, stage=stage)
        origin = _origin(candidate, route, config)
        with stage("encode"):
            objects = encode_analyses(analyses, inputs, origin, plan.encoders)
    return Outcome(inputs=inputs, analyses=analyses, objects=objects)


def _route(series: Series, wanted: Wanted) -> Route:
    this_one = {"SeriesInstanceUID": re.escape(series.series_instance_uid)}
    name = wanted.model.name
    return Route(
        name=name,
        steps=(Step(model=name, explain=wanted.explain),),
        # Whoever waits at a terminal ends it by Ctrl-C.
        budget=BudgetSettings(forwards=wanted.forwards, minutes=None),
        select=(Selector(name="image", conditions=this_one),),
    )


def _origin(candidate: Candidate, route: Route, config: Config) -> Origin:
    return Origin(
        study_instance_uid=candidate.study.study_instance_uid,
        input_sop_instance_uids=tuple(
            sorted(instance.sop_instance_uid for instance in candidate.series.instances)
        ),
        route=route.name,
        config_hash=config_hash(config, route),
        created=datetime.now(UTC),
        site=config.site,
        software_version=metadata.version("pellucid"),
    )


def _explain_spec(text: str) -> ExplainSpec:
    method, _, parameters = text.partition(":")
    known = names(EXPLAINERS)
    if method not in known:
        raise MisuseError(f"there is no explainer {method!r}{nearest(method, known)}")
    pairs = [pair.partition("=") for pair in _PAIR.findall(parameters) if pair.strip()]
    for name, sign, _ in pairs:
        if not sign or not name.strip().isidentifier():
            raise MisuseError(f"--explain {text!r}: expected {method}:parameter=value,...")
    values = {name.strip(): _value(value.strip()) for name, _, value in pairs}
    against = values.pop("against", None)
    return ExplainSpec(
        method=method,
        of=_texts(values.pop("of", ())),
        against=None if against is None else str(against),
        parameters=values,
    )


def _texts(value: Parameter) -> tuple[str, ...]:
    return tuple(str(each) for each in (value if isinstance(value, tuple) else (value,)))


def _value(text: str) -> Parameter:
    """Return a number, truth or list as TOML writes it, else the text itself."""
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
        if text.startswith("[") and text.endswith("]"):
            value = [_value(part.strip()) for part in _PAIR.findall(text[1:-1])]
    if isinstance(value, list):
        return cast("Parameter", tuple(value))
    return value if isinstance(value, bool | int | float | str) else text
