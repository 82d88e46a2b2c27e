"""What an explainer accepts: checked once, at the border, before any pass is spent."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ai.capture import gradients_on, private_copy
from ai.errors import (
    BudgetError,
    ExplanationError,
    InputTensorError,
    OpaqueNetworkError,
    TargetError,
    TrainingModeError,
    UndifferentiableError,
)
from ai.model import Settings, Target
from ai.targets import logits_of, part_of

#: What a caller gets who asks for nothing special.
DEFAULTS = Settings()


def admit(network: nn.Module, x: Tensor) -> tuple[nn.Module, Tensor]:
    """Return a private frozen copy of the network, and the input as a plain tensor.

    Parameters
    ----------
    network
        In evaluation mode, with all its modules.
    x
        float [B, C, *S], finite.

    Raises
    ------
    TrainingModeError
        If a module is in training mode: batch statistics and dropout would be explained.
    InputTensorError
        If the input has another rank or type, or holds NaN or infinity.
    """
    for name, module in network.named_modules():
        if module.training:
            raise TrainingModeError(
                f"{name or 'the network'} ({type(module).__name__}) is in training mode; "
                "call network.eval() first"
            )
    plain = admit_input(x)
    return private_copy(network), plain


def admit_input(x: Tensor) -> Tensor:
    """Return the input as a plain tensor, for a network that was admitted before.

    Raises
    ------
    InputTensorError
        As ``admit``.
    """
    if x.ndim < 3 or not x.is_floating_point():
        raise InputTensorError(
            f"expected a float tensor [B, C, *S], at least one axis in space, got {x.dtype} "
            f"of shape {tuple(x.shape)}"
        )
    # A sum is many times faster than a look at each value; an infinite one may only be too large.
    if not bool(torch.isfinite(x.sum())) and not bool(torch.isfinite(x).all()):
        wrong = int((~torch.isfinite(x)).sum())
        raise InputTensorError(f"{wrong} of {x.numel()} input values are NaN or infinite")
    with torch.inference_mode(mode=False):
        plain = x.as_subclass(Tensor).detach()
        return plain.clone() if plain.is_inference() else plain


def require_transparent(network: nn.Module, method: str) -> None:
    """Refuse a network that a method cannot look into.

    Raises
    ------
    OpaqueNetworkError
        If the network is TorchScript or was compiled by ``torch.compile``.
    """
    if isinstance(network, torch.jit.ScriptModule) or hasattr(network, "_orig_mod"):
        raise OpaqueNetworkError(
            f"{method} needs the layers of the network, and {type(network).__name__} hides them; "
            "use occlusion, which only runs the network"
        )


def require_forwards(settings: Settings, needed: int, method: str) -> None:
    """Refuse a budget that does not reach for the least a method needs.

    Raises
    ------
    BudgetError
        If the budget has a limit below ``needed`` forward passes.
    """
    limit = settings.budget.forwards if settings.budget else None
    if limit is not None and limit < needed:
        raise BudgetError(
            f"{method} needs at least {needed} forward passes, the budget has {limit}"
        )


@contextmanager
def differentiating() -> Iterator[None]:
    """Record gradients inside, and say by name that a network has none.

    Raises
    ------
    UndifferentiableError
        If torch refuses. Lack of memory stays what it is.
    """
    try:
        with gradients_on():
            yield
    except (ExplanationError, torch.OutOfMemoryError):
        raise
    except RuntimeError as error:
        if "DefaultCPUAllocator" in str(error):
            raise
        said = str(error).strip().splitlines()[0]
        raise UndifferentiableError(f"the network cannot be differentiated: {said}") from error


def evaluate(target: Target, output: object, x: Tensor) -> Tensor:
    """Return the target's value of a network's output, [B].

    Raises
    ------
    TargetError
        If the target does not give one number per entry of the batch.
    """
    part = getattr(target, "part", ())
    value = target(part_of(output, part) if part else logits_of(output), x)
    if value.shape != (x.shape[0],):
        raise TargetError(
            f"the target gave shape {tuple(value.shape)}, expected one number for each of the "
            f"{x.shape[0]} entries of the batch"
        )
    return value
