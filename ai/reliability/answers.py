"""How a classifier's output is read: as the answers to one question, or to several.

Everything in this package works on answers, [N, Q, A]: N images, Q questions, A answers to each. A
sigmoid's channel is a question of its own, answered no (0) or yes (1), so that Q is its channels
and A is 2. The channels of a softmax are the answers to a single question: Q is 1.
"""

from enum import StrEnum

import torch
from torch import Tensor

from ai.errors import MeasureError


class Activation(StrEnum):
    """What turns a network's logits into probabilities."""

    #: Each channel by itself: findings that may stand side by side.
    SIGMOID = "sigmoid"
    #: All channels together: classes that exclude each other.
    SOFTMAX = "softmax"


def answer_logits(logits: Tensor, activation: Activation) -> Tensor:
    """Return the logit of each answer, float64 [N, Q, A] on the CPU.

    Only the difference of the two answers to a yes or no is known of a sigmoid. It is divided
    evenly, -z / 2 and z / 2: neither answer is the odd one, and their softmax is the sigmoid of z.

    Parameters
    ----------
    logits
        float [N, K], the network's output.
    activation
        How it is read.

    Raises
    ------
    MeasureError
        If the logits have another rank, or a softmax has but one channel.
    """
    if logits.ndim != 2 or (activation is Activation.SOFTMAX and logits.shape[1] < 2):
        raise MeasureError(
            f"logits of shape {tuple(logits.shape)} are not [N, K] with the channels that a "
            f"{activation} needs"
        )
    exact = logits.detach().to("cpu", torch.float64)
    if activation is Activation.SOFTMAX:
        return exact[:, None]
    return torch.stack((-exact / 2, exact / 2), dim=2)


def answers_of(labels: Tensor, logits: Tensor, activation: Activation) -> Tensor:
    """Return which answer is right, int64 [N, Q].

    Parameters
    ----------
    labels
        Of a sigmoid: bool or 0 and 1, [N, K], or [N] if K is 1. Of a softmax: the channel, [N].
    logits
        [N, K], what the network said of the same images.
    activation
        How it is read.

    Raises
    ------
    MeasureError
        If the labels do not fit the logits.
    """
    count, channels = logits.shape
    questions = 1 if activation is Activation.SOFTMAX else channels
    answers = channels if activation is Activation.SOFTMAX else 2
    right = labels.detach().cpu()
    right = right[:, None] if right.ndim == 1 else right
    if right.shape != (count, questions) or right.is_floating_point() or right.is_complex():
        raise MeasureError(
            f"labels {right.dtype} of shape {tuple(labels.shape)} do not fit logits "
            f"{tuple(logits.shape)} of a {activation}: expected whole numbers [{count}, "
            f"{questions}]"
        )
    right = right.long()
    if count and not bool(((right >= 0) & (right < answers)).all()):
        raise MeasureError(
            f"labels run from {int(right.min())} to {int(right.max())}, expected 0 to {answers - 1}"
        )
    return right


def answer_probabilities(
    logits: Tensor, activation: Activation, *, temperature: float = 1.0
) -> Tensor:
    """Return the probability of each answer, float64 [N, Q, A]; raises as ``answer_logits``."""
    return torch.softmax(answer_logits(logits, activation) / temperature, dim=2)


def channel_probabilities(answers: Tensor, activation: Activation) -> Tensor:
    """Return the probability of each output channel, [N, K], of those of the answers [N, Q, A]."""
    return answers[:, 0] if activation is Activation.SOFTMAX else answers[:, :, 1]
