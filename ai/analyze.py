"""The heart: one image and one model to findings, segments and measured explanations."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from ai.assess import STRANGE, assess, familiarity_of
from ai.capture import fingerprint
from ai.errors import (
    BudgetError,
    ExplanationCancelledError,
    ExplanationError,
    InputChangedError,
    MeasureError,
    NetworkChangedError,
)
from ai.explainers.cam import ClassActivationMap
from ai.limits import UNLIMITED, Limits, refusal_text, require_memory
from ai.measure import Case, Measures, family_of, faults_of, measures_of, with_agreement
from ai.model import Attribution, Budget, Explainer, Model, Prepared, Settings, Target
from ai.predict import findings_of, predict, segments_of, shared_maps
from ai.prepare import to_source_grid
from ai.session import ExplainSession
from ai.subjects import Subject, subjects_of, target_of, window_warning
from ai.window import View, view_around
from dicom_io.analysis import (
    Analysis,
    Explanation,
    FailedExplanation,
    Heatmap,
)
from dicom_io.read import Input

#: Parts that one step of the work is reported in.
_PARTS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplainerRequest:
    """One explainer that a route asks for."""

    #: As routes write it: ``layer_cam``.
    name: str
    explainer: Explainer
    #: Labels to explain where they are found; empty: the foremost of all that are found.
    targets: tuple[str, ...] = ()
    #: Label that each is weighed against: why this and not that; None: each for itself.
    against: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AnalyzeSettings:
    """What a caller decides about an analysis as a whole."""

    #: Most findings or segments that each explainer explains.
    max_explained: int = 3
    seed: int = 0
    #: ``forwards`` holds for each explanation; ``report`` hears of the whole, in thousandths of a
    #: step, the prediction being the first and each explanation another.
    budget: Budget | None = None
    #: What an explanation may take beside passes, and until when.
    limits: Limits = UNLIMITED
    measure: bool = True
    #: Measures with a limit that a person has set: taken whatever they cost.
    insisted: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    request: ExplainerRequest
    subject: Subject
    #: Channel that the subject's is weighed against.
    against: int | None = None
    #: What the prediction's own pass gave; None: the explainer is asked.
    shared: Attribution | None = None


def analyze(
    inputs: Sequence[Input],
    model: Model,
    requests: Sequence[ExplainerRequest],
    settings: AnalyzeSettings,
) -> Analysis:
    """Return what the model found in the first input, and why, on that input's grid.

    Explained is what is found: findings at or above the operating point, the most probable first,
    and segments that have voxels, the largest first. An explanation that cannot be made is among
    the failures and costs neither findings nor the others. Of an image that is unlike those that
    the model was validated on nothing is explained. Same arguments, same result.

    Parameters
    ----------
    inputs
        At least one; the others are there for the encoders and for models that compare.

    Raises
    ------
    UnsuitableInputError
        The image is outside of the model's intended use.
    InvalidOutputError
        The network gave NaN or infinity: nothing it says is a result.
    ExplanationError
        An explainer was asked for a label that the model does not have.
    ExplanationCancelledError
        The caller cancelled.
    NetworkChangedError
        An explainer left the network changed.
    ReliabilityError
        What was fitted to the model does not fit it.
    """
    source = inputs[0]
    prepared = model.prepare(source.volume)
    asked = [request.explainer for request in requests]
    prediction, session = predict(model, prepared, asked, settings.limits)
    assessment = assess(model, prediction, prepared, session)
    findings = findings_of(prediction, model, assessment)
    segments = segments_of(prediction, model)
    jobs = _jobs(requests, model, subjects_of(findings, segments, prepared, model), settings)
    answers: list[Explanation | FailedExplanation] = []
    if assessment is not None and not bool(assessment.in_distribution[0]):
        # What a network says of what it does not know has no reasons worth looking at.
        answers, jobs = [_failed(job, STRANGE) for job in jobs], ()
    if session is not None:
        jobs = _with_maps(jobs, session, prepared, settings)
        # Its gradient graph would take memory while others explain.
        del session
    _report(settings, 1, len(jobs) + 1)
    for number, job in enumerate(jobs, start=1):
        answers.append(_attempt(job, model, prepared, _within(settings, number, len(jobs) + 1)))
        _require_wanted(settings)
        _report(settings, number + 1, len(jobs) + 1)
    explanations = tuple(each for each in answers if isinstance(each, Explanation))
    if settings.measure:
        families = {each.name: family_of(each.explainer) for each in requests}
        explanations = with_agreement(explanations, families, settings.limits.time_is_up)
    return Analysis(
        model=model.card,
        input_name=source.name,
        findings=findings,
        segments=segments,
        explanations=explanations,
        failures=tuple(each for each in answers if isinstance(each, FailedExplanation)),
        familiarity=familiarity_of(assessment, model.reliability),
    )


def _jobs(
    requests: Sequence[ExplainerRequest],
    model: Model,
    subjects: Sequence[Subject],
    settings: AnalyzeSettings,
) -> tuple[_Job, ...]:
    channels: dict[str | None, int] = {label.name: label.channel for label in model.labels}
    named = {label for each in requests for label in (*each.targets, each.against) if label}
    if unknown := sorted(named - set(channels)):
        known = ", ".join(label.name for label in model.labels)
        raise ExplanationError(
            f"model {model.card.name} has no label {', '.join(unknown)}; it has {known}"
        )
    return tuple(
        _Job(request=request, subject=subject, against=channels.get(request.against))
        for request in requests
        for subject in _asked(request, subjects, settings)
    )


def _with_maps(
    jobs: Sequence[_Job], session: ExplainSession, prepared: Prepared, settings: AnalyzeSettings
) -> tuple[_Job, ...]:
    """Return the jobs, those with what they want that can be read from the prediction's pass."""
    quiet = Settings(budget=replace(_budget(settings), report=None))
    done = list(jobs)
    for label in dict.fromkeys(job.subject.label for job in jobs):
        variants = {
            number: job.request.explainer
            for number, job in enumerate(jobs)
            if job.subject.label == label
            and job.request.against is None
            and isinstance(job.request.explainer, ClassActivationMap)
        }
        if not variants:
            continue
        subject = jobs[next(iter(variants))].subject
        target = target_of(subject, view_around(prepared, subject.mask))
        maps = shared_maps(session, target, tuple(variants.values()), quiet)
        for number, found in zip(variants, maps, strict=True):
            done[number] = replace(jobs[number], shared=found)
    return tuple(done)


def _asked(
    request: ExplainerRequest, subjects: Sequence[Subject], settings: AnalyzeSettings
) -> Sequence[Subject]:
    # Why this and not the same is no question.
    others = [each for each in subjects if each.label != request.against]
    if request.targets:
        return [each for each in others if each.label in request.targets]
    return others[: settings.max_explained]


def _attempt(
    job: _Job, model: Model, prepared: Prepared, settings: AnalyzeSettings
) -> Explanation | FailedExplanation:
    """Return the explanation, or why there is none; memory and mistakes of ours stay errors."""
    if settings.limits.time_is_up():
        return _failed(job, "the time for explaining was over before it was begun")
    before = fingerprint(model.network)
    try:
        return _explanation(job, model, prepared, settings)
    except ExplanationCancelledError:
        _require_wanted(settings)
        if not settings.limits.time_is_up():
            raise
        return _failed(job, "the time for explaining was over before there was anything to show")
    except BudgetError as error:
        return _failed(job, refusal_text(error))
    except (ExplanationError, MeasureError) as error:
        return _failed(job, str(error))
    finally:
        if fingerprint(model.network) != before:
            raise NetworkChangedError(
                f"explainer {job.request.name} left the network of model {model.card.name} "
                "changed: load the model anew"
            )


def _failed(job: _Job, reason: str) -> FailedExplanation:
    return FailedExplanation(
        target=job.subject.label,
        against=job.request.against,
        method=job.request.name,
        reason=reason,
        parameters=_parameters(job.request.explainer),
    )


def _require_wanted(settings: AnalyzeSettings) -> None:
    budget = settings.budget
    if budget is not None and budget.cancelled is not None and budget.cancelled():
        raise ExplanationCancelledError("the caller cancelled")


def _explanation(
    job: _Job, model: Model, prepared: Prepared, settings: AnalyzeSettings
) -> Explanation:
    view = view_around(prepared, job.subject.mask)
    view = replace(view, tensor=view.tensor.clone())
    target = target_of(job.subject, view, against=job.against)
    attribution = job.shared or _asked_itself(job, model, view, target, settings)
    _require_on_grid(attribution, view, job)
    measures = _measures(job, model, view, attribution, settings)
    _require_untouched(view, job)
    return Explanation(
        target=job.subject.label,
        against=job.request.against,
        method=job.request.name,
        heatmap=Heatmap(relevance=_relevance(attribution, view, prepared)),
        measures=measures.values,
        cost=attribution.cost,
        parameters=_parameters(job.request.explainer),
        layer=attribution.layer,
        baseline=attribution.baseline,
        residual=None if attribution.residual is None else float(attribution.residual.max()),
        warnings=(
            *attribution.warnings,
            *measures.warnings,
            *window_warning(job.subject, view),
        ),
    )


def _measures(
    job: _Job, model: Model, view: View, attribution: Attribution, settings: AnalyzeSettings
) -> Measures:
    if not settings.measure:
        return faults_of(attribution, view.tensor)
    target = target_of(job.subject, view, against=job.against)
    budget = replace(_budget(settings), report=None)
    quiet = replace(settings, budget=budget)
    return measures_of(
        Case(
            attribution=attribution,
            network=model.network,
            x=view.tensor,
            target=target,
            explain=lambda x: (
                _asked_itself(job, model, replace(view, tensor=x), target, quiet).values
            ),
            insisted=settings.insisted,
            seed=settings.seed,
            ended=budget.cancelled or (lambda: False),
        )
    )


def _asked_itself(
    job: _Job, model: Model, view: View, target: Target, settings: AnalyzeSettings
) -> Attribution:
    require_memory(job.request.explainer, model.network, view.tensor, settings.limits)
    return job.request.explainer.explain(
        model.network,
        view.tensor,
        target,
        Settings(budget=_budget(settings), generator=torch.Generator().manual_seed(settings.seed)),
    )


def _require_on_grid(attribution: Attribution, view: View, job: _Job) -> None:
    if attribution.values.shape[2:] != view.tensor.shape[2:]:
        raise ExplanationError(
            f"explainer {job.request.name} gave relevance of {tuple(attribution.values.shape)} "
            f"for an input of {tuple(view.tensor.shape)}"
        )


def _require_untouched(view: View, job: _Job) -> None:
    # torch counts what is written to a tensor and to all that share its memory.
    if view.tensor._version:  # noqa: SLF001 - the only name that torch has for it
        raise InputChangedError(
            f"explainer {job.request.name}, or the network under it, changed its input: "
            "what it explained is another image"
        )


def _relevance(attribution: Attribution, view: View, prepared: Prepared) -> NDArray[np.float32]:
    return to_source_grid(view.spread(attribution.values[0]), prepared)


def _parameters(explainer: Explainer) -> dict[str, str]:
    parameters = fields(cast("Any", explainer))
    return {each.name: _text(getattr(explainer, each.name)) for each in parameters if each.init}


def _text(value: object) -> str:
    """Return a parameter as a route writes it, a text without its quotes."""
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _budget(settings: AnalyzeSettings) -> Budget:
    """Return the budget of one explanation, which ends with the caller's wish or with the time."""
    budget = settings.budget or Budget()
    wishes = [ask for ask in (budget.cancelled, settings.limits.expired) if ask is not None]
    return replace(budget, cancelled=lambda: any(ask() for ask in wishes))


def _within(settings: AnalyzeSettings, step: int, steps: int) -> AnalyzeSettings:
    """Return settings whose progress is reported as that of one step of the whole."""
    budget = settings.budget
    if budget is None or budget.report is None:
        return settings
    whole = budget.report

    def report(done: int, total: int) -> None:
        share = min(done / total, 1.0) if total else 0.0
        whole(round((step + share) * _PARTS), steps * _PARTS)

    return replace(settings, budget=replace(budget, report=report))


def _report(settings: AnalyzeSettings, step: int, steps: int) -> None:
    if settings.budget is not None and settings.budget.report is not None:
        settings.budget.report(step * _PARTS, steps * _PARTS)
