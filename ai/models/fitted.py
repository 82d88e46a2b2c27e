"""What was fitted to a model on known cases, loaded as its configuration names it, or refused."""

import math
from collections.abc import Sequence

from ai.errors import ModelUnavailableError, ReliabilityError
from ai.model import Label
from ai.reliability.assessment import Reliability
from ai.reliability.store import load_reliability
from ai.settings import ModelSettings

#: Temperatures that differ by less are one, written with fewer digits.
_ROUNDING = 1e-3


def reliability_of(
    settings: ModelSettings, *, weights_sha256: str, labels: Sequence[Label]
) -> Reliability | None:
    """Return the reliability that the settings name; None if they name none.

    Parameters
    ----------
    weights_sha256
        Of the loaded weights, hex.
    labels
        What the model answers.

    Raises
    ------
    ModelUnavailableError
        The file is missing, is not the one that was named, or was fitted to other weights or fewer
        channels; or the settings name a temperature beside it that is not its own.
    """
    if settings.reliability is None:
        return None
    named = settings.reliability
    try:
        found = load_reliability(named.file, weights_sha256=weights_sha256, sha256=named.sha256)
    except ReliabilityError as error:
        raise ModelUnavailableError(str(error)) from error
    beyond = [label for label in labels if label.channel >= found.channels]
    if beyond:
        raise ModelUnavailableError(
            f"{named.file} was fitted to {found.channels} output channel(s), and "
            f"{beyond[0].name!r} is channel {beyond[0].channel}: correct [model.labels], or "
            "validate the model again"
        )
    own = found.temperature
    same = own is not None and math.isclose(settings.temperature, own, rel_tol=_ROUNDING)
    if settings.temperature != 1.0 and not same:
        fitted = "slopes of no and yes were" if own is None else f"{own:.6g} was"
        raise ModelUnavailableError(
            f"operating_point.temperature is {settings.temperature:g}, and in {named.file} "
            f"{fitted} fitted: logits are scaled once, remove the temperature"
        )
    return found
