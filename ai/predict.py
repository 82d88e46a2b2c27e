"""What a model says of an image, from a pass that class activation maps share where they can."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

import torch

from ai.assess import certainty_of
from ai.errors import ExplanationError, InvalidOutputError
from ai.explainers.cam import ClassActivationMap
from ai.limits import Limits, require_memory
from ai.model import (
    Attribution,
    Explainer,
    Label,
    Model,
    Prediction,
    Prepared,
    Settings,
    Target,
)
from ai.reliability.assessment import Assessment
from ai.session import ExplainSession
from dicom_io.analysis import Finding, Segment


def predict(
    model: Model, prepared: Prepared, explainers: Sequence[Explainer], limits: Limits
) -> tuple[Prediction, ExplainSession | None]:
    """Return the prediction, and the session it was read from if anything can use that.

    There is one if the model sees all of its input at once, and either a class activation map is
    wanted that memory allows, or its features are, because a reliability was fitted to the model.

    Raises
    ------
    InvalidOutputError
        The network gave NaN or infinity: nothing it says is a result.
    """
    session = None
    if prepared.window is None:
        session = _session(model, prepared, explainers, limits)
    if session is not None:
        prediction = model.interpret(session.output, prepared)
    else:
        # A network may work in place on what it is given.
        prediction = model.predict(replace(prepared, tensor=prepared.tensor.clone()))
    _require_finite(prediction, model)
    return prediction, session


def findings_of(
    prediction: Prediction, model: Model, assessment: Assessment | None = None
) -> tuple[Finding, ...]:
    """Return what a classifier says of each label, in their order; nothing of a segmenter.

    Where there is an assessment, its probabilities take the place of the model's own.
    """
    return tuple(
        _finding(label, prediction, model, assessment)
        for label in model.labels
        if label.name in prediction.probabilities
    )


def segments_of(prediction: Prediction, model: Model) -> tuple[Segment, ...]:
    """Return what a segmenter outlined, in the order of the labels; no empty segments."""
    return tuple(
        Segment(label=label.name, concept=label.concept, mask=prediction.masks[label.name])
        for label in model.labels
        if label.name in prediction.masks and prediction.masks[label.name].any()
    )


def shared_maps(
    session: ExplainSession,
    target: Target,
    variants: Sequence[ClassActivationMap],
    settings: Settings,
) -> tuple[Attribution | None, ...]:
    """Return what each variant gets from the shared pass, at no further forward pass.

    None for what it does not give: the explainer is to be asked itself, and says what is in its
    way. So one that fails costs the others nothing.
    """
    try:
        return session.cams(target, variants, settings)
    except ExplanationError:
        if len(variants) == 1:
            return (None,)
        alone = [shared_maps(session, target, (each,), settings) for each in variants]
        return tuple(found for (found,) in alone)


def _finding(
    label: Label, prediction: Prediction, model: Model, assessment: Assessment | None
) -> Finding:
    finding = Finding(
        label=label.name,
        concept=label.concept,
        probability=prediction.probabilities[label.name],
        threshold=model.threshold,
    )
    if assessment is None or model.reliability is None:
        return finding
    return replace(
        finding,
        probability=float(assessment.probabilities[0, label.channel]),
        calibrated=True,
        certainty=certainty_of(assessment, model.reliability, label.channel),
    )


def _session(
    model: Model, prepared: Prepared, explainers: Sequence[Explainer], limits: Limits
) -> ExplainSession | None:
    variants = [each for each in explainers if isinstance(each, ClassActivationMap)]
    affordable = []
    # Whatever is refused here, the explainer says again when its turn comes.
    for each in variants:
        with suppress(ExplanationError):
            require_memory(each, model.network, prepared.tensor, limits)
            affordable.append(each)
    assessed = model.reliability is not None
    if affordable or assessed:
        with suppress(ExplanationError):
            return ExplainSession(
                model.network, prepared.tensor, variants=affordable, own_features=assessed
            )
    return None


def _require_finite(prediction: Prediction, model: Model) -> None:
    wrong = sum(int((~torch.isfinite(channel)).sum()) for channel in prediction.output[0])
    if wrong:
        raise InvalidOutputError(
            f"model {model.card.name}: {wrong} of {prediction.output.numel()} output values are "
            f"NaN or infinite"
        )
