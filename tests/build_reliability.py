"""Builders of reliabilities, and of the files that keep them."""

import hashlib

import torch

from ai.reliability.answers import Activation
from ai.reliability.assessment import Reliability
from ai.reliability.calibration import Calibration
from ai.reliability.conformal import ConformalRule, Score
from ai.reliability.out_of_distribution import FeatureModel
from ai.reliability.store import save_reliability
from ai.settings import ReliabilityFile


def make_reliability(*, channels=2, width=2, **changes):
    """Return one of a sigmoid, with features of mean 0 and deviation 1; 20 % to 80 % is open."""
    values = {
        "weights_sha256": "ab" * 32,
        "activation": Activation.SIGMOID,
        "channels": channels,
        "cases": 100,
        "calibration": Calibration(slopes=(0.5, 0.5), biases=torch.zeros(channels).double()),
        "conformal": ConformalRule(
            score=Score.LAC, level=0.9, limits=torch.full((channels,), 0.8).double()
        ),
        "features": FeatureModel(
            means=torch.zeros(1, width).double(), precision=torch.eye(width).double()
        ),
        "energy_limit": 0.0,
        "distance_limit": 0.5,
    }
    return Reliability(**(values | changes))


def stored_reliability(reliability, file):
    """Write a reliability to a file and return what a model file says of it."""
    save_reliability(reliability, file)
    return ReliabilityFile(file=file, sha256=hashlib.sha256(file.read_bytes()).hexdigest())
