"""One known case to its record: predicted, explained by every method, measured."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from hashlib import sha256

from torch import Tensor, nn

from ai.card.cases import CONTROLS, Candidate, CardSettings, Depth, KnownCase
from ai.card.maps import again, control, control_values, explained
from ai.card.measuring import Measured, measured
from ai.card.questions import Question, question_of
from ai.card.records import CaseRecord, MapRecord, RandomizationRecord
from ai.card.truth import Mask, dice, masks_by_label, presence
from ai.errors import ExplanationError, MeasureError
from ai.explainers.cam import ClassActivationMap
from ai.limits import UNLIMITED
from ai.model import Attribution, Model, Prediction, Prepared
from ai.predict import predict
from ai.quality.randomization import emprt, forgetting
from ai.session import ExplainSession
from dicom_io.read import read_volume
from dicom_io.truth.folder import TruthFolder, read_truth
from dicom_io.volume import Volume

#: Noisy copies and stages of the randomization: fewer than by default, as several cases are asked.
_COPIES, _STAGES = 4, 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """What every case is read with."""

    model: Model
    settings: CardSettings
    truths: TruthFolder
    #: Seconds from any beginning.
    clock: Callable[[], float]
    #: Told what is being done now.
    told: Callable[[str], None] = lambda _: None


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A case as far as it has to be opened again to be drawn."""

    volume: Volume
    prediction: Prediction
    #: Where each label is, as far as that is known.
    masks: dict[str, Mask]
    truth: dict[str, bool]
    question: Question | None
    session: ExplainSession | None
    prediction_seconds: float


def open_case(case: KnownCase, reader: Reader) -> Opened:
    """Return a case with its truth, its prediction and what is asked of it.

    Raises
    ------
    DicomInputError
        The image or its truth cannot be read, or do not belong together.
    UnsuitableInputError, InvalidOutputError
        The image is not what the model is meant for, or the network gave no numbers.
    """
    volume = read_volume(case.series)
    regions = read_truth(case.files, case.series, volume, reader.truths)
    model = reader.model
    masks = masks_by_label(regions, model.labels)
    truth = presence(masks, case.labels, model.labels, has_files=bool(case.files))
    prepared = model.prepare(volume)
    begun = reader.clock()
    prediction, _ = predict(model, prepared, (), UNLIMITED)
    seconds = reader.clock() - begun
    # Each case has a random map of its own, the same every time.
    seed = int.from_bytes(sha256(f"{reader.settings.seed} {case.name}".encode()).digest()[:4])
    return Opened(
        volume=volume,
        prediction=prediction,
        masks=masks,
        truth=truth,
        question=question_of(model, prepared, prediction, masks, seed=seed),
        session=_session(model.network, prepared, prediction, reader.settings.candidates),
        prediction_seconds=seconds,
    )


def read_case(case: KnownCase, key: str, depth: Depth, reader: Reader) -> CaseRecord:
    """Return all that the card needs of a case; raises as ``open_case``."""
    begun = reader.clock()
    opened = open_case(case, reader)
    question, prediction = opened.question, opened.prediction
    record = CaseRecord(
        key=key,
        case=case.name,
        modality=opened.volume.modality,
        shape=opened.volume.grid_shape,
        spacing_mm=opened.volume.spacing_mm or (),
        logits=_logits(prediction),
        probabilities=dict(prediction.probabilities),
        features=_features(opened.session),
        truth=opened.truth,
        dice={
            name: dice(mask, prediction.masks[name])
            for name, mask in opened.masks.items()
            if name in prediction.masks
        },
        prediction_seconds=opened.prediction_seconds,
    )
    if question is not None:
        record = replace(
            record,
            target=question.label,
            is_placed=question.truth is not None,
            is_found=question.is_found,
            maps=_maps(question, opened.session, depth, reader),
            randomization=_randomization(question, reader) if depth.randomized else (),
        )
    return replace(record, seconds=reader.clock() - begun)


def _maps(
    question: Question, session: ExplainSession | None, depth: Depth, reader: Reader
) -> tuple[MapRecord, ...]:
    made = []
    for candidate in reader.settings.candidates:
        reader.told(candidate.name)
        begun = reader.clock()
        try:
            attribution = explained(candidate, question, session)
            seconds = reader.clock() - begun
            repeat = again(candidate, question)
            found = measured(attribution, repeat, question, reader.settings, depth)
        except (ExplanationError, MeasureError) as error:
            made.append(MapRecord(name=candidate.name, problem=str(error)))
            continue
        made.append(replace(_record(candidate.name, attribution, found), seconds=seconds))
    for name in CONTROLS:
        reader.told(f"control: {name}")
        attribution = control(name, question)
        repeat = control_values(name, question)
        made.append(
            _record(
                name, attribution, measured(attribution, repeat, question, reader.settings, depth)
            )
        )
    return tuple(made)


def _record(name: str, attribution: Attribution, found: Measured) -> MapRecord:
    return MapRecord(
        name=name,
        measures=found.values,
        insertion=found.insertion,
        deletion=found.deletion,
        layer=attribution.layer,
        forwards=attribution.cost.forwards,
        backwards=attribution.cost.backwards,
        peak_bytes=attribution.cost.peak_bytes,
        warnings=(*attribution.warnings, *found.warnings),
    )


def _randomization(question: Question, reader: Reader) -> tuple[RandomizationRecord, ...]:
    return tuple(_forgotten(each, question, reader) for each in reader.settings.candidates)


def _forgotten(candidate: Candidate, question: Question, reader: Reader) -> RandomizationRecord:
    reader.told(f"{candidate.name} of networks that forgot")
    x = question.view.tensor

    def explain(network: nn.Module, image: Tensor) -> Tensor:
        return again(candidate, replace(question, network=network))(image)

    try:
        rise = emprt(explain, question.network, x, generator=question.generator())
        curve = forgetting(
            explain,
            question.network,
            x,
            generator=question.generator(),
            samples=_COPIES,
            stages=_STAGES,
        )
    except (ExplanationError, MeasureError) as error:
        return RandomizationRecord(
            name=candidate.name, emprt=float("nan"), modules=(), similarity=(), problem=str(error)
        )
    return RandomizationRecord(
        name=candidate.name,
        emprt=float(rise),
        modules=curve.modules,
        similarity=tuple(curve.similarity[0].tolist()),
    )


def _session(
    network: nn.Module,
    prepared: Prepared,
    prediction: Prediction,
    candidates: tuple[Candidate, ...],
) -> ExplainSession | None:
    """Return the pass that maps and features of a classifier are read from, where there can be."""
    if not prediction.probabilities or prepared.window is not None:
        return None
    variants = [
        each.explainer for each in candidates if isinstance(each.explainer, ClassActivationMap)
    ]
    try:
        return ExplainSession(network, prepared.tensor, variants=variants, own_features=True)
    except ExplanationError:
        return None


def _features(session: ExplainSession | None) -> tuple[float, ...]:
    if session is None:
        return ()
    try:
        return tuple(session.features[0].tolist())
    except ExplanationError:
        return ()


def _logits(prediction: Prediction) -> tuple[float, ...]:
    return tuple(prediction.output[0].tolist()) if prediction.probabilities else ()
