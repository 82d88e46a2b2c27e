"""Outcome: how a task ended that has no analysis to report."""

from dataclasses import dataclass
from enum import StrEnum


class OutcomeKind(StrEnum):
    """Why there is no analysis."""

    #: The image is outside the intended use of the model: it was not run.
    REJECTED = "rejected"
    #: Images are damaged: it was not run.
    DAMAGED = "damaged"
    #: It was tried and could not be completed.
    FAILED = "failed"
    #: It was tried and waits for a person at the node; a report may still follow.
    PARKED = "parked"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What is said in the place of a report, in words for a radiologist.

    "Found nothing" and "partly done" are no outcomes: a report says them.
    """

    kind: OutcomeKind
    #: What was in the way, in words; without the patient's name or identifiers.
    reason: str
    #: Which criterion of the intended use was not met: ``Modality is MR, expected CT``.
    criterion: str = ""
    #: What to do next, in words; empty where nobody can do anything.
    advice: str = ""
    #: The model that was to run, as far as it is known.
    model_name: str = ""
    model_version: str = ""
    #: sha256 (hex) of the weights file.
    weights_sha256: str = ""
