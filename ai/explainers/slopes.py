"""Functions with the slope between two points in the place of their derivative."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

#: A change below this many roundings of the values themselves is none.
_ROUNDINGS = 64
#: Rows whose greatest logits differ by more do not fit into float32 under one shift.
_WIDE = 80.0


def slope_of(function: Callable[[Tensor], Tensor], x: Tensor, reference: Tensor) -> Tensor:
    """Return f(x), elementwise, whose gradient is (f(x) - f(x0)) / (x - x0).

    Where x is x0, up to rounding, it is the derivative. ``reference`` broadcasts to ``x``.
    """
    answer: Tensor = _Slope.apply(x, reference, function)  # type: ignore[no-untyped-call]
    return answer


def softmax_slope(x: Tensor, reference: Tensor, dim: int) -> Tensor:
    """Return softmax(x) along an axis, whose gradient takes it as e / sum(e), e = exp(x).

    The exponential has its slope, the sum is linear, its reciprocal has its slope, and the product
    is split between its two factors: what the weights gained is accounted for exactly.
    """
    answer: Tensor = _SoftmaxSlope.apply(x, reference, dim)  # type: ignore[no-untyped-call]
    return answer


def logsumexp_slope(x: Tensor, reference: Tensor, dim: tuple[int, ...], keepdim: bool) -> Tensor:
    """Return logsumexp(x) along axes, whose gradient takes it as exponential, sum and logarithm."""
    shift = torch.maximum(x.detach().amax(dim, True), reference.amax(dim, True))
    total = slope_of(torch.exp, x - shift, reference - shift).sum(dim, True)
    before = (reference - shift).exp().sum(dim, True)
    value = slope_of(torch.log, total, before) + shift
    return value if keepdim else value.squeeze(dim)


def grafted(carrier: Tensor, value: Tensor) -> Tensor:
    """Return ``value`` with the gradient of ``carrier``, of the same shape."""
    answer: Tensor = _Graft.apply(carrier, value)  # type: ignore[no-untyped-call]
    return answer


class _Slope(torch.autograd.Function):
    @staticmethod
    def forward(
        context: Any, x: Tensor, reference: Tensor, function: Callable[[Tensor], Tensor]
    ) -> Tensor:
        value = function(x)
        change = x - reference
        roundings = _ROUNDINGS * torch.finfo(x.dtype).eps
        still = change.abs() <= (x.abs() + reference.abs()).mul_(roundings)
        slope = (value - function(reference)).div_(change)
        if bool(still.any()):
            slope = torch.where(still, _derivative(function, x), slope)
        context.save_for_backward(slope)
        return value.clone() if value is x else value

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (slope,) = context.saved_tensors
        return gradient * slope, None, None


def _derivative(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        value = function(leaf)
        (derivative,) = torch.autograd.grad(value, leaf, torch.ones_like(value))
    return derivative


class _SoftmaxSlope(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, x: Tensor, reference: Tensor, dim: int) -> Tensor:
        tops = x.amax(dim, keepdim=True), reference.amax(dim, keepdim=True)
        wide = bool((tops[0] - tops[1]).abs().max() > _WIDE)
        now, before = (each.double() if wide else each for each in (x, reference))
        shift = torch.maximum(*tops).to(now.dtype)
        powers, powers_before = (now - shift).exp(), (before - shift).exp()
        inverse, inverse_before = (
            each.sum(dim, keepdim=True).reciprocal() for each in (powers, powers_before)
        )
        change = now - before
        still = change.abs() <= _ROUNDINGS * torch.finfo(x.dtype).eps * (now.abs() + before.abs())
        # Minus infinity hides a place in both rows: it has no change and no part.
        still |= change.isnan()
        slope = torch.where(still, powers, (powers - powers_before) / change)
        context.save_for_backward(
            slope.to(x.dtype),
            ((powers + powers_before) / 2).to(x.dtype),
            ((inverse + inverse_before) / 2).to(x.dtype),
            (-inverse * inverse_before).to(x.dtype),
        )
        context.dim = dim
        return (powers * inverse).to(x.dtype)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        slope, mean_power, mean_inverse, inverse_slope = context.saved_tensors
        to_sum = (gradient * mean_power).sum(context.dim, keepdim=True) * inverse_slope
        return (gradient * mean_inverse + to_sum) * slope, None, None


class _Graft(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, carrier: Tensor, value: Tensor) -> Tensor:  # noqa: ARG004
        return value.clone()

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:  # noqa: ARG004
        return gradient, None
