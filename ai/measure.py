"""The measures of one explanation, on the prepared grid where it was made."""

from torch import Tensor, nn

from ai.model import Attribution, Target
from ai.quality import integrity
from ai.quality.faithfulness import comprehensiveness
from dicom_io.analysis import MeasureValue


def measures_of(
    attribution: Attribution, network: nn.Module, x: Tensor, target: Target
) -> tuple[MeasureValue, ...]:
    """Return what can be measured of an attribution of ``target`` to ``x``, [1, C, *S].

    A map that is no explanation at all has no other measure than that; the residual is there only
    for methods that have one.

    Raises
    ------
    MeasureError, ExplanationError
        As ``ai.quality.faithfulness.comprehensiveness``.
    """
    # A changed network ends the whole analysis: that is required around explanation and measures.
    sound = integrity.measure(attribution.values, x, before="", after="")
    measures = [MeasureValue(name="integrity", value=sound)]
    if attribution.residual is not None:
        measures.append(MeasureValue(name="residual", value=float(attribution.residual.max())))
    if sound == 1.0:
        value = comprehensiveness(network, x, target, attribution.values)
        measures.append(MeasureValue(name="comprehensiveness", value=value))
    return tuple(measures)
