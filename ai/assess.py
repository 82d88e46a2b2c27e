"""How far what a model said of an image can be trusted, from the pass that it was read from."""

from ai.errors import ExplanationError, ReliabilityError
from ai.model import Model, Prediction, Prepared
from ai.reliability.answers import Activation
from ai.reliability.assessment import Assessment, Reliability
from ai.session import ExplainSession
from dicom_io.analysis import Certainty, Familiarity

#: Why there is no heatmap of a strange image, for a radiologist.
STRANGE = "the image is unlike those that the model was validated on"


def assess(
    model: Model, prediction: Prediction, prepared: Prepared, session: ExplainSession | None
) -> Assessment | None:
    """Return what is to be thought of a prediction; None if nothing was fitted to the model.

    Costs no forward pass where there is a session: its logits and features are of one pass.

    Raises
    ------
    ReliabilityError
        If what was fitted does not fit this model: it is no classifier, sees one window at a time,
        has no features to read, or gives logits or features of other widths.
    """
    if model.reliability is None:
        return None
    name = model.card.name
    if prepared.window is not None or prediction.output.ndim != 2:
        raise ReliabilityError(
            f"model {name} does not classify an image as a whole (its output is "
            f"{tuple(prediction.output.shape)}), and no reliability applies to others: remove "
            "[model.reliability]"
        )
    try:
        features = _session_of(model, prepared, session).features
        return model.reliability.assess(prediction.output, features)
    except (ExplanationError, ReliabilityError) as error:
        raise ReliabilityError(
            f"model {name}: its answer cannot be assessed: {error}; else remove [model.reliability]"
        ) from error


def certainty_of(assessment: Assessment, reliability: Reliability, channel: int) -> Certainty:
    """Return which answers about one output channel remain, of the first image.

    Of classes that exclude each other, a class is present where it remains, and absent where
    another does: the right one of the two remains whenever the right class does.
    """
    question = 0 if reliability.activation is Activation.SOFTMAX else channel
    answer = channel if reliability.activation is Activation.SOFTMAX else 1
    remaining = assessment.sets[0, question]
    present = bool(remaining[answer])
    return Certainty(
        level=reliability.conformal.level,
        present=present,
        absent=int(remaining.sum()) > int(present),
    )


def familiarity_of(
    assessment: Assessment | None, reliability: Reliability | None
) -> Familiarity | None:
    """Return whether the first image is like those that the reliability was fitted on, if any."""
    if assessment is None or reliability is None:
        return None
    return Familiarity(
        distance=float(assessment.distance[0]),
        distance_limit=reliability.distance_limit,
        energy=float(assessment.energy[0]),
        energy_limit=reliability.energy_limit,
    )


def _session_of(model: Model, prepared: Prepared, session: ExplainSession | None) -> ExplainSession:
    """Return the prediction's session; where there could be none, one that says why."""
    if session is not None:
        return session
    return ExplainSession(model.network, prepared.tensor, variants=(), own_features=True)
