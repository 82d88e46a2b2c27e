"""Which explainers are tried where nobody says: the cheap ones that the network allows."""

from collections.abc import Sequence

from torch import Tensor

from ai.card.cases import Candidate, KnownCase
from ai.errors import ExplanationError, UnsuitableInputError
from ai.estimate import estimated_cost
from ai.model import Model
from ai.window import view_around
from dicom_io.errors import DicomInputError
from dicom_io.read import read_volume

#: In the order of the card: maps that are part of the network, read from one pass, or a few more.
DEFAULT_METHODS = ("evidence", "layer_cam", "grad_cam", "hires_cam", "grad_attention", "lrp")


def applicable(
    candidates: Sequence[Candidate], model: Model, cases: Sequence[KnownCase]
) -> tuple[Candidate, ...]:
    """Return the candidates that work on the network, for images like the first that it takes.

    All of them if it takes none: why, is said of each case.
    """
    for case in cases:
        try:
            prepared = model.prepare(read_volume(case.series))
        except (DicomInputError, UnsuitableInputError):
            continue
        x = view_around(prepared, None).tensor
        return tuple(each for each in candidates if _works(each, model, x)) or tuple(candidates)
    return tuple(candidates)


def _works(candidate: Candidate, model: Model, x: Tensor) -> bool:
    try:
        estimated_cost(candidate.explainer, model.network, x)
    except ExplanationError:
        return False
    return True
