"""The phantom model: finds the synthetic lesions of ``ai.phantom``, and is for nothing else.

It takes a head MR volume in any orthogonal or oblique orientation, turns its axes to the nearest
axial ones, resamples them to 2 mm and measures brightness in standard deviations of the head.
"""

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import torch
from torch import Tensor, nn

from ai.errors import ModelUnavailableError
from ai.model import Label, Prediction, Prepared
from ai.models.bundle_files import read_verified, verify_bundle
from ai.models.fitted import reliability_of
from ai.models.intended_use import require_suitable
from ai.phantom.head import prepare_head
from ai.phantom.network import PhantomNetwork
from ai.reliability.assessment import Reliability
from ai.settings import IntendedUse, ModelSettings
from dicom_io.analysis import ModelCard
from dicom_io.codes import SYNTHETIC_LESION
from dicom_io.volume import Volume

LABEL = "Synthetic lesion"
NOTICE = (
    "synthetic-lesion phantom, QA of the explanation chain, not trained on patients, "
    "not for clinical use"
)
#: Inside the package ``ai.phantom``; made by ``python -m ai.phantom.train``.
WEIGHTS_FILE = "data/weights.pt"
#: Inside the folder that the settings name.
OWN_WEIGHTS_FILE = "weights.pt"
WEIGHTS_SHA256 = "53d74114823dcd09f239766d0241e2e76d829ed2de875cea9fc2025622cbaa04"


@dataclass(frozen=True, slots=True, kw_only=True)
class PhantomModel:
    """The loaded phantom classifier: one logit, for a lesion that was planted."""

    card: ModelCard
    network: nn.Module
    labels: Sequence[Label]
    threshold: float
    temperature: float
    intended_use: IntendedUse
    reliability: Reliability | None = None

    def prepare(self, volume: Volume) -> Prepared:
        """Return a head on the network's grid; raises UnsuitableInputError."""
        require_suitable(volume, self.intended_use)
        return prepare_head(volume)

    def predict(self, prepared: Prepared) -> Prediction:
        """Return the logit and the probability of a planted lesion."""
        with torch.no_grad():
            output = self.network(prepared.tensor)
        return self.interpret(output, prepared)

    def interpret(self, output: Tensor, prepared: Prepared) -> Prediction:  # noqa: ARG002
        """Return the probability that a logit means."""
        probability = torch.sigmoid(output[0, 0].double() / self.temperature)
        return Prediction(output=output, probabilities={LABEL: float(probability)})


def load(settings: ModelSettings) -> PhantomModel:
    """Return the phantom model with the weights of the package, or of one's own training.

    Own weights are the file ``weights.pt`` in the folder ``settings.bundle``, as
    ``python -m ai.phantom.train --out`` writes it, with its sha256 among the settings.

    Raises
    ------
    ModelUnavailableError
        If the weights are missing or are not those that were named, or the reliability is not.
    """
    weights = _package_weights() if settings.bundle is None else _own_weights(settings)
    card = _card(settings, weights)
    labels = (Label(channel=0, name=LABEL, concept=SYNTHETIC_LESION),)
    return PhantomModel(
        card=card,
        network=_network(weights),
        labels=labels,
        reliability=reliability_of(settings, weights_sha256=card.weights_sha256, labels=labels),
        threshold=settings.threshold,
        temperature=settings.temperature,
        intended_use=settings.intended_use,
    )


def require_package_weights(weights: bytes) -> bytes:
    """Return the bytes of the weights file if they are those that belong to this code.

    Raises
    ------
    ModelUnavailableError
        If they are not.
    """
    digest = hashlib.sha256(weights).hexdigest()
    if digest != WEIGHTS_SHA256:
        raise ModelUnavailableError(
            f"{WEIGHTS_FILE} has sha256 {digest}, expected {WEIGHTS_SHA256}: install it again"
        )
    return weights


def _package_weights() -> bytes:
    try:
        return require_package_weights((files("ai.phantom") / WEIGHTS_FILE).read_bytes())
    except FileNotFoundError as error:
        raise ModelUnavailableError(
            f"the package has no {WEIGHTS_FILE}; install it again"
        ) from error


def _own_weights(settings: ModelSettings) -> bytes:
    folder = settings.bundle or Path()
    verify_bundle(folder, settings.sha256)
    return read_verified(folder, OWN_WEIGHTS_FILE, settings.sha256)


def _network(weights: bytes) -> PhantomNetwork:
    """Return the network with its weights, frozen and in evaluation mode."""
    network = PhantomNetwork()
    network.load_state_dict(
        torch.load(io.BytesIO(weights), map_location="cpu", weights_only=True), strict=True
    )
    return network.eval().requires_grad_(requires_grad=False)


def _card(settings: ModelSettings, weights: bytes) -> ModelCard:
    return ModelCard(
        name=settings.name,
        version="1",
        weights_sha256=hashlib.sha256(weights).hexdigest(),
        description="Finds synthetic lesions that were planted into an MNI152 head",
        manufacturer="Pellucid",
        intended_use=settings.intended_use.text or "Acceptance and constancy tests with phantoms",
        notice=NOTICE,
    )
