"""The main path on one screen: a study goes in, data sets that may leave come out."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

from ai.analyze import AnalyzeSettings, ExplainerRequest, analyze
from ai.model import Model
from ai.settings import ModelSettings
from dicom_io.analysis import Analysis
from dicom_io.encode.objects import Encoded, Encoder, encode_results
from dicom_io.origin import Origin
from dicom_io.prior import Priors, beside_prior
from dicom_io.read import Input, read_inputs
from dicom_io.select import Selector
from dicom_io.study import Study
from node.config import GateSettings, Plan, PlannedStep
from node.config_targets import require_labels
from node.gate import apply_gate
from node.plugins import load_encoder, load_explainer

#: Called with the name of a stage; the stage is what happens inside.
Stage = Callable[[str], AbstractContextManager[object]]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedStep:
    """A model in memory, and the explainers that are asked about it."""

    model: Model
    explainers: tuple[ExplainerRequest, ...]
    #: The route's gate, with the limits of the model where the route has none.
    gate: GateSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedPlan:
    """A plan whose models, explainers and encoders are at hand."""

    select: tuple[Selector, ...]
    steps: tuple[LoadedStep, ...]
    settings: AnalyzeSettings
    encoders: Mapping[str, Encoder]


def _to_nobody(_analyses: Sequence[Analysis]) -> None: ...


def run(
    study: Study,
    origin: Origin,
    plan: LoadedPlan,
    *,
    stage: Stage = nullcontext,
    told: Callable[[Sequence[Analysis]], None] = _to_nobody,
    priors: Priors | None = None,
) -> tuple[Encoded, ...]:
    """Return every object that this study and this plan result in.

    Parameters
    ----------
    stage
        Entered for ``read``, ``analyze``, ``gate`` and ``encode``: progress and timing.
    told
        Called with what may be said, before it is encoded.
    priors
        What was found of earlier studies; None if nobody asked.

    Raises
    ------
    DicomInputError, UnsuitableInputError
        The study is not what the plan is for.
    EncodingError
        An object did not pass its check.
    """
    inputs, released = release(study, plan, stage=stage)
    released = beside_prior(released, inputs, priors)
    told(released)
    with stage("encode"):
        return encode_results(released, inputs, origin, plan.encoders)


def release(
    study: Study, plan: LoadedPlan, *, stage: Stage = nullcontext
) -> tuple[tuple[Input, ...], tuple[Analysis, ...]]:
    """Return what was read, and what may be said of it; raises as ``run``."""
    with stage("read"):
        inputs = read_inputs(study, plan.select)
    with stage("analyze"):
        analyses = [
            analyze(inputs, step.model, step.explainers, _measuring(plan.settings, step.gate))
            for step in plan.steps
        ]
    with stage("gate"):
        judged = zip(analyses, plan.steps, strict=True)
        return inputs, tuple(apply_gate(analysis, step.gate) for analysis, step in judged)


def load_plan(
    plan: Plan, model_for: Callable[[ModelSettings], Model], settings: AnalyzeSettings
) -> LoadedPlan:
    """Return the plan with its plug-ins loaded.

    Parameters
    ----------
    model_for
        Loads a model, or returns the one that is resident already.

    Raises
    ------
    ModelUnavailableError, ConfigError
        A model cannot be loaded; a plug-in, one of its parameters or a label is unknown.
    """
    steps = tuple(_loaded_step(step, model_for, plan.gate) for step in plan.steps)
    return LoadedPlan(
        select=plan.select,
        steps=steps,
        settings=settings,
        encoders={name: load_encoder(name) for name in plan.results},
    )


def _measuring(settings: AnalyzeSettings, gate: GateSettings) -> AnalyzeSettings:
    """Return the settings with what the gate will ask for."""
    return replace(settings, measure=gate.measure, insisted=frozenset(gate.limits))


def _loaded_step(
    step: PlannedStep, model_for: Callable[[ModelSettings], Model], gate: GateSettings
) -> LoadedStep:
    model = model_for(step.model)
    require_labels(step.explain, [label.name for label in model.labels], step.model.name)
    requests = tuple(
        ExplainerRequest(
            name=spec.method,
            explainer=load_explainer(spec.method, spec.parameters),
            targets=spec.of,
            against=spec.against,
        )
        for spec in step.explain
    )
    limits = {**step.model.gate, **gate.limits}
    return LoadedStep(model=model, explainers=requests, gate=replace(gate, limits=limits))
