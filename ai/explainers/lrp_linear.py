"""How a convolution or a linear layer shares the relevance of its output among its inputs.

Each rule puts a sum z in the place of the output y = sum of x w + b: what reaches an input is its
own term of z, scaled by y / z, so that the terms sum to y again. The value stays y.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ai.explainers.functions import Call

_TENSORS = ("input", "weight", "bias")


@dataclass(frozen=True, slots=True, kw_only=True)
class Weighted:
    """A call of a function y = sum of x w + b: ``linear``, ``conv3d``, ``conv_transpose2d`` ..."""

    function: Callable[..., Tensor]
    x: Tensor
    weight: Tensor
    bias: Tensor | None
    #: Stride, padding and the like.
    rest: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    #: Where the output has its channels, from the end.
    channel_axis: int

    def output(self) -> Tensor:
        """Return the sum of all terms."""
        return self.of(self.x, self.weight, self.bias)

    def magnitude(self) -> Tensor:
        """Return the sum of the sizes of all terms."""
        bias = None if self.bias is None else self.bias.abs()
        return self.of(self.x if self.is_positive else self.x.abs(), self.weight.abs(), bias)

    def positive(self) -> Tensor:
        """Return the sum of the positive terms."""
        if not self.is_positive:
            return (self.output() + self.magnitude()) / 2
        bias = None if self.bias is None else self.bias.clamp(min=0)
        return self.of(self.x, self.weight.clamp(min=0), bias)

    def of(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Return the same function of other tensors."""
        return self.function(x, weight, bias, *self.rest, **self.kwargs)

    @property
    def is_positive(self) -> bool:
        """Whether no input is negative, as behind a ReLU."""
        return bool(self.x.detach().amin() >= 0)


#: From a call, and the leaf that takes the part of the bias and what cannot be handed on, to the
#: output. (A bias that is a leaf itself would make torch compute the gradient of the weight.)
LinearRule = Callable[[Weighted, Tensor], Tensor]


def weighted_of(call: Call) -> Weighted:
    """Return the parts of a call of a linear function."""
    return Weighted(
        function=call.function,
        x=call.argument(0, "input"),
        weight=call.argument(1, "weight"),
        bias=call.argument(2, "bias"),
        rest=call.args[3:],
        kwargs={key: value for key, value in call.kwargs.items() if key not in _TENSORS},
        channel_axis=-1 if call.name == "linear" else -1 - int(call.name[-2]),
    )


def own_gradient(call: Weighted, remainder: Tensor) -> Tensor:
    """Return the output: each term has its share of y itself (LRP-0)."""
    return _applied(_Counting, call.output(), _Bias.of(call), remainder)


@dataclass(frozen=True, slots=True)
class Epsilon:
    """z = y + epsilon sign(y): weak outputs hand on less (Bach et al. 2015).

    ``share`` is epsilon relative to the root mean square of the layer's output.
    """

    share: float

    def __call__(self, call: Weighted, remainder: Tensor) -> Tensor:
        """Return the output."""
        return _applied(_Absorbing, call.output(), _Bias.of(call), self.share, remainder)


@dataclass(frozen=True, slots=True)
class Gamma:
    """z = y + gamma times the terms of y's own sign (Montavon et al. 2019).

    Written for inputs and outputs of either sign, from two sums: the terms of y's own sign are
    (y + sign(y) m) / 2, m being the sum of the sizes of all terms. So z has the sign of y and is
    never smaller: nothing is divided by a small number.
    """

    gamma: float

    def __call__(self, call: Weighted, remainder: Tensor) -> Tensor:
        """Return the output."""
        output, magnitude = call.output(), call.magnitude()
        return _applied(_Favoring, output, magnitude, _Bias.of(call), self.gamma, remainder)


@dataclass(frozen=True, slots=True)
class ZPlus:
    """z = the positive terms alone (Montavon et al. 2017).

    An output without any leaves its relevance to the remainder.
    """

    def __call__(self, call: Weighted, remainder: Tensor) -> Tensor:
        """Return the output."""
        with torch.no_grad():
            output = call.output()
        return _applied(_Replacing, call.positive(), output, _Bias.of(call), remainder)


@dataclass(frozen=True, slots=True)
class _Bias:
    """What of an output's gradient the bias receives, as relevance."""

    values: Tensor | None
    channel_axis: int

    @staticmethod
    def of(call: Weighted) -> "_Bias":
        return _Bias(call.bias, call.channel_axis)

    def relevance(self, gradient: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor | float:
        """Return the sum of gradient times the bias, changed as in the terms of z."""
        if self.values is None:
            return 0.0
        channel = gradient.ndim + self.channel_axis
        others = [axis for axis in range(gradient.ndim) if axis != channel]
        return total(change(self.values) * (gradient.sum(others) if others else gradient))


def total(values: Tensor) -> Tensor:
    """Return the sum of all values, [], added up in float64."""
    return values.sum(dtype=torch.float64).to(values.dtype)


def _applied(function: type[torch.autograd.Function], *arguments: object) -> Tensor:
    answer: Tensor = function.apply(*arguments)  # type: ignore[no-untyped-call]
    return answer


class _Counting(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, output: Tensor, bias: _Bias, remainder: Tensor) -> Tensor:  # noqa: ARG004
        context.bias = bias
        context.mark_dirty(output)
        return output

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Any, ...]:
        return gradient, None, _as_gradient(context.bias.relevance(gradient, _same), gradient)


class _Absorbing(torch.autograd.Function):
    @staticmethod
    def forward(
        context: Any,
        output: Tensor,
        bias: _Bias,
        share: float,
        remainder: Tensor,  # noqa: ARG004
    ) -> Tensor:
        epsilon = share * float(output.square().mean().sqrt()) or _tiny(output)
        # The ratio y / z with the sign of y; what is absorbed is epsilon times it.
        ratio = output.abs().add_(epsilon)
        context.save_for_backward(torch.div(output, ratio, out=ratio))
        context.epsilon, context.bias = epsilon, bias
        context.mark_dirty(output)
        return output

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Any, ...]:
        (ratio,) = context.saved_tensors
        absorbed = context.epsilon * total(gradient * ratio)
        to_output = gradient * ratio.abs()
        left = absorbed + context.bias.relevance(to_output, _same)
        return to_output, None, None, _as_gradient(left, gradient)


class _Favoring(torch.autograd.Function):
    @staticmethod
    def forward(
        context: Any,
        output: Tensor,
        magnitude: Tensor,
        bias: _Bias,
        gamma: float,
        remainder: Tensor,  # noqa: ARG004
    ) -> Tensor:
        size = output.abs().mul_(1 + gamma / 2).add_(magnitude, alpha=gamma / 2)
        # The ratio y / z with the sign of y; an output of nothing has none.
        context.save_for_backward(torch.div(output, size.clamp_(min=_tiny(size)), out=size))
        context.gamma, context.bias = gamma, bias
        context.mark_dirty(output)
        return output

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Any, ...]:
        (ratio,) = context.saved_tensors
        to_magnitude = (gradient * ratio).mul_(context.gamma / 2)
        to_output = (gradient * ratio.abs()).mul_(1 + context.gamma / 2)
        left = context.bias.relevance(to_output, _same)
        left += context.bias.relevance(to_magnitude, torch.abs)
        return to_output, to_magnitude, None, None, _as_gradient(left, gradient)


class _Replacing(torch.autograd.Function):
    @staticmethod
    def forward(
        context: Any,
        carrier: Tensor,
        output: Tensor,
        bias: _Bias,
        remainder: Tensor,  # noqa: ARG004
    ) -> Tensor:
        ratio = torch.where(carrier > 0, output / carrier, 0)
        context.save_for_backward(ratio, output - carrier * ratio)
        context.bias = bias
        return output.clone()

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Any, ...]:
        ratio, left = context.saved_tensors
        to_carrier = gradient * ratio
        lost = total(gradient * left) + context.bias.relevance(to_carrier, _positive)
        return to_carrier, None, None, _as_gradient(lost, gradient)


def _same(values: Tensor) -> Tensor:
    return values


def _positive(values: Tensor) -> Tensor:
    return values.clamp(min=0)


def _as_gradient(relevance: Tensor | float, like: Tensor) -> Tensor:
    return torch.as_tensor(relevance, dtype=like.dtype, device=like.device)


def _tiny(values: Tensor) -> float:
    return float(torch.finfo(values.dtype).tiny)
