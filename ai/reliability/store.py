"""A fitted reliability as one file beside the model, and the refusal of one that is not its own."""

import hashlib
import io
import math
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray
from torch import Tensor

from ai.errors import ReliabilityError
from ai.reliability.answers import Activation
from ai.reliability.assessment import Reliability
from ai.reliability.calibration import Calibration
from ai.reliability.conformal import ConformalRule, Score
from ai.reliability.out_of_distribution import FeatureModel

#: Changes when a field does.
_FORMAT = "pellucid reliability 3"


def save_reliability(reliability: Reliability, path: Path) -> None:
    """Write a reliability to ``path`` (``.npz``), whole or not at all."""
    part = path.with_name(path.name + ".part")
    with part.open("wb") as stream:
        np.savez_compressed(
            stream,
            format=_FORMAT,
            weights_sha256=reliability.weights_sha256,
            activation=str(reliability.activation),
            channels=reliability.channels,
            cases=reliability.cases,
            slopes=np.array(reliability.calibration.slopes),
            biases=reliability.calibration.biases.numpy(),
            score=str(reliability.conformal.score),
            level=reliability.conformal.level,
            limits=reliability.conformal.limits.numpy(),
            means=reliability.features.means.numpy(),
            precision=reliability.features.precision.numpy(),
            energy_limit=reliability.energy_limit,
            distance_limit=reliability.distance_limit,
        )
    part.replace(path)


def load_reliability(path: Path, *, weights_sha256: str, sha256: str | None = None) -> Reliability:
    """Return the reliability in a file, if it was fitted to these weights.

    Parameters
    ----------
    path
        As ``save_reliability`` wrote it. Nothing in it is ever run.
    weights_sha256
        Of the model's weights, hex.
    sha256
        Of the file, hex, where one was named: the very bytes that have it are read.

    Raises
    ------
    ReliabilityError
        If the file is missing, another or no such file, belongs to other weights, or holds values
        that cannot be: shapes that do not fit each other, NaN, a precision that is none.
    """
    stored = _read(path, sha256)
    if _text(stored, "weights_sha256") != weights_sha256:
        raise ReliabilityError(
            f"{path} was fitted to weights with sha256 {_text(stored, 'weights_sha256')}, the "
            f"model has {weights_sha256}: validate the model again"
        )
    try:
        reliability = _reliability(stored)
    except (KeyError, TypeError, ValueError) as error:
        raise ReliabilityError(f"{path} is incomplete or not understood: {error}") from error
    problems = _problems(reliability)
    if problems:
        raise ReliabilityError(f"{path}: {'; '.join(problems)}: validate the model again")
    return reliability


def _read(path: Path, sha256: str | None) -> dict[str, NDArray[Any]]:
    try:
        content = path.read_bytes()
        _require_named(path, content, sha256)
        # Of bytes, since numpy leaves a file open that turns out to be no archive.
        archive = np.load(io.BytesIO(content), allow_pickle=False)
        stored = dict(archive) if isinstance(archive, NpzFile) else {}
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise ReliabilityError(f"{path} cannot be read: {error}") from error
    if _text(stored, "format") != _FORMAT:
        raise ReliabilityError(
            f"{path} is of the format {_text(stored, 'format')!r}, expected {_FORMAT!r}"
        )
    return stored


def _require_named(path: Path, content: bytes, sha256: str | None) -> None:
    found = hashlib.sha256(content).hexdigest()
    if sha256 is not None and found != sha256.lower():
        raise ReliabilityError(
            f"{path} has sha256 {found}, listed is {sha256}: restore the file, or validate the "
            "model again and list what comes of it"
        )


def _text(stored: dict[str, NDArray[Any]], name: str) -> str:
    return str(stored[name]) if name in stored else ""


def _reliability(stored: dict[str, NDArray[Any]]) -> Reliability:
    return Reliability(
        weights_sha256=str(stored["weights_sha256"]),
        activation=Activation(str(stored["activation"])),
        channels=int(stored["channels"]),
        cases=int(stored["cases"]),
        calibration=Calibration(slopes=_pair(stored["slopes"]), biases=_exact(stored["biases"])),
        conformal=ConformalRule(
            score=Score(str(stored["score"])),
            level=float(stored["level"]),
            limits=_exact(stored["limits"]),
        ),
        features=FeatureModel(means=_exact(stored["means"]), precision=_exact(stored["precision"])),
        energy_limit=float(stored["energy_limit"]),
        distance_limit=float(stored["distance_limit"]),
    )


def _pair(values: NDArray[Any]) -> tuple[float, float]:
    first, second = values.tolist()
    return float(first), float(second)


def _exact(values: NDArray[Any]) -> Tensor:
    return torch.from_numpy(values.astype(np.float64))


def _problems(reliability: Reliability) -> list[str]:
    """Return what cannot be in a reliability that was fitted."""
    found = []
    questions = 1 if reliability.activation is Activation.SOFTMAX else reliability.channels
    limits, means = reliability.conformal.limits, reliability.features.means
    precision = reliability.features.precision
    if limits.shape != (questions,) or bool(limits.isnan().any()):
        found.append(f"limits of shape {tuple(limits.shape)}, expected [{questions}] without NaN")
    if means.ndim != 2 or precision.shape != (means.shape[-1],) * 2 or len(means) == 0:
        found.append(
            f"means {tuple(means.shape)} and a precision {tuple(precision.shape)} do not fit"
        )
    elif not bool(means.isfinite().all()) or not _is_precision(precision):
        found.append("the means or the precision of the features are no numbers that can be")
    slopes, biases = reliability.calibration.slopes, reliability.calibration.biases
    if biases.shape != (reliability.channels,) or not bool(biases.isfinite().all()):
        found.append(f"biases of shape {tuple(biases.shape)}, expected [{reliability.channels}]")
    alike = reliability.activation is Activation.SIGMOID or slopes[0] == slopes[1]
    if not (all(0.0 <= each < math.inf for each in slopes) and any(slopes) and alike):
        found.append(f"slopes {slopes[0]} and {slopes[1]}")
    if not 0.0 < reliability.conformal.level < 1.0:
        found.append(f"level {reliability.conformal.level}")
    if not math.isfinite(reliability.energy_limit + reliability.distance_limit):
        found.append(f"limits {reliability.energy_limit} and {reliability.distance_limit}")
    return found


def _is_precision(matrix: Tensor) -> bool:
    if not bool(matrix.isfinite().all()) or not bool(torch.equal(matrix, matrix.T)):
        return False
    return int(torch.linalg.cholesky_ex(matrix).info) == 0
