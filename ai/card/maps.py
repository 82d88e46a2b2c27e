"""The maps of one question, one after the other: the candidates', then those that know nothing."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ai.card.cases import Candidate
from ai.card.questions import Question
from ai.explainers.cam import ClassActivationMap
from ai.model import Attribution, Settings
from ai.predict import shared_maps
from ai.prepare import to_source_grid
from ai.quality.controls import intensity_map, random_map, sobel_map
from ai.session import ExplainSession
from dicom_io.analysis import Cost

#: From an image [B, C, *S] to a map of it.
Explain = Callable[[Tensor], Tensor]


def explained(
    candidate: Candidate, question: Question, session: ExplainSession | None
) -> Attribution:
    """Return what a method says, from the prediction's own pass where it can be read from that.

    Raises
    ------
    ExplanationError
        If the method does not work on this network.
    """
    explainer = candidate.explainer
    if session is not None and isinstance(explainer, ClassActivationMap):
        (found,) = shared_maps(session, question.target, (explainer,), Settings())
        if found is not None:
            return found
    return _asked(candidate, question, question.view.tensor)


def again(candidate: Candidate, question: Question) -> Explain:
    """Return the method as a function of the image alone, with the same seed each time."""
    return lambda x: _asked(candidate, question, x).values


def control(name: str, question: Question) -> Attribution:
    """Return the map of a control in the place of an explanation.

    It is made of the image as the network sees it, and takes the same way to the source's grid as
    any map, so that it is not the sharper for that.
    """
    return Attribution(
        values=control_values(name, question)(question.view.tensor),
        f_x=question.f_x,
        f_baseline=None,
        residual=None,
        method=name,
        layer=None,
        baseline=None,
        seed=question.seed,
        cost=Cost(forwards=0.0),
    )


def control_values(name: str, question: Question) -> Explain:
    """Return a control as a function of the image alone."""

    def values(x: Tensor) -> Tensor:
        image = x[0].detach().float().cpu().numpy()
        if name == "random":
            made = random_map(image.shape[1:], np.random.default_rng(question.seed))
        else:
            of = sobel_map if name == "sobel" else intensity_map
            made = np.sum([of(channel) for channel in image], axis=0, dtype=np.float32)
        return torch.from_numpy(made)[None, None].to(x.device)

    return values


def on_source(values: Tensor, question: Question) -> NDArray[np.float32]:
    """Return a map [1, C, *W] of the view on the grid of the source, channels summed."""
    spread = question.view.spread(values[0])
    return np.asarray(to_source_grid(spread, question.prepared).sum(axis=0), np.float32)


def _asked(candidate: Candidate, question: Question, x: Tensor) -> Attribution:
    settings = replace(Settings(), generator=question.generator())
    return candidate.explainer.explain(question.network, x.clone(), question.target, settings)
