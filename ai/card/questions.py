"""What is explained of a case: the label whose place is known, else the foremost that was found."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ai.model import Model, Prediction, Prepared, Target
from ai.predict import findings_of, segments_of
from ai.subjects import Subject, subjects_of, target_of
from ai.targets import logits_of
from ai.window import View, view_around


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Why the network says this of that image: what every method is asked."""

    network: nn.Module
    prepared: Prepared
    view: View
    target: Target
    #: [1], the target's value of the image.
    f_x: Tensor
    label: str
    #: bool [slice, row, column] on the source grid; None where the place is not known.
    truth: NDArray[np.bool_] | None
    #: Whether the model found it.
    is_found: bool
    seed: int

    def generator(self) -> torch.Generator:
        """Return a generator that begins anew: whoever asks gets the same numbers."""
        return torch.Generator().manual_seed(self.seed)


def question_of(
    model: Model,
    prepared: Prepared,
    prediction: Prediction,
    masks: Mapping[str, NDArray[np.bool_]],
    *,
    seed: int,
) -> Question | None:
    """Return what is asked of a case; None if nothing was found and nothing is known to be there.

    A classifier is asked for the label that was outlined, found or not: leaving out what it missed
    would make maps look better than they are. A segmenter is asked for its largest segment.
    """
    findings, segments = findings_of(prediction, model), segments_of(prediction, model)
    found = subjects_of(findings, segments, prepared, model)
    names = {subject.label for subject in found}
    channels = {label.name: label.channel for label in model.labels}
    missed = [Subject(label=n, channel=channels[n]) for n in masks if n not in names]
    placed = [subject for subject in found if subject.label in masks]
    chosen = next(iter([*placed, *(missed if findings else ()), *found]), None)
    if chosen is None:
        return None
    view = view_around(prepared, chosen.mask)
    target = target_of(chosen, view)
    output = prediction.output if view.is_whole else _answer(model.network, view)
    return Question(
        network=model.network,
        prepared=prepared,
        view=view,
        target=target,
        f_x=target(output, view.tensor).detach(),
        label=chosen.label,
        truth=masks.get(chosen.label),
        is_found=chosen.label in names,
        seed=seed,
    )


def _answer(network: nn.Module, view: View) -> Tensor:
    with torch.no_grad():
        return logits_of(network(view.tensor.clone()))
