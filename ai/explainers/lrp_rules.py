"""The rules of layer-wise relevance propagation, as functions with another gradient.

Every rule keeps the value of its function and gives it a gradient for which

    output x gradient at the output  =  sum over inputs of  input x gradient at the input,

the constants of the network (biases, embeddings, shifts) being inputs too. Along the network this
makes relevance = input x gradient, and what the image and all constants receive sums to the target:
that is conservation, and what ``Ledger`` adds up.

| function | rule |
|---|---|
| ReLU, max pooling, interpolation and all that is piecewise linear | its own gradient |
| convolution, linear | a rule of ``lrp_linear``, or its own gradient |
| other activations | the secant through their value at zero |
| softmax in attention | detached (Ali et al. 2022), or to first order (Achtibat et al. 2024) |
| logarithm of a sum of exponentials | to first order |
| sigmoid and other gates, variances, divisors | detached: what is gated or normed carries |
| product of two signals | half to each (Achtibat et al. 2024) |
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ai.explainers.functions import LINEAR, Call, Rule, is_tracked, names
from ai.explainers.lrp_linear import LinearRule, total, weighted_of

#: Piecewise linear, or with a gradient that conserves as it is.
UNDERSTOOD = LINEAR | names(
    """
    abs absolute adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d amax amin leaky_relu
    lp_pool1d lp_pool2d max max_pool1d max_pool2d max_pool3d maximum min minimum norm prelu relu
    rrelu sort topk vector_norm
    """
)
#: Functions of one argument, answered by the secant through their value at zero.
_ACTIVATIONS = names(
    """
    celu clamp clamp_max clamp_min elu erf exp expm1 gelu hardshrink hardswish hardtanh log1p
    logsigmoid mish relu6 selu silu sin softplus softshrink softsign sqrt square tanh tanhshrink
    threshold
    """
)
#: Gates and norms: their own gradient is not followed.
_DETACHED = names("hardsigmoid rdiv reciprocal rsqrt sigmoid std var")
#: Products, by the position of their first factor.
_PRODUCTS = {"mul": 0, "matmul": 0, "bmm": 0, "mm": 0, "mv": 0, "dot": 0, "einsum": 1}
_WEIGHTED = ("linear", *(f"conv{kind}{n}d" for kind in ("", "_transpose") for n in (1, 2, 3)))


class Ledger:
    """The constants of a network, as leaves that relevance can flow to."""

    def __init__(self, like: Tensor) -> None:
        #: One; its gradient is all relevance that a rule could not hand on.
        self.remainder = torch.ones((), dtype=like.dtype, device=like.device, requires_grad=True)
        self._constants: list[Tensor] = []

    def constant(self, value: Tensor) -> Tensor:
        """Return a constant as a leaf."""
        leaf = value.detach().clone().requires_grad_()
        self._constants.append(leaf)
        return leaf

    @property
    def leaves(self) -> list[Tensor]:
        """All leaves so far."""
        return [self.remainder, *self._constants]

    def received(self, gradients: Sequence[Tensor | None]) -> Tensor:
        """Return the relevance of all leaves, float64 [], from their gradients."""
        shares = [
            (leaf.detach().double() * gradient.double()).sum()
            for leaf, gradient in zip(self.leaves, gradients, strict=True)
            if gradient is not None
        ]
        return torch.stack(shares).sum() if shares else self.remainder.new_zeros(()).double()


def rules_for(linear: LinearRule, ledger: Ledger, *, through_softmax: bool) -> dict[str, Rule]:
    """Return the table of rules, by name of the function.

    Parameters
    ----------
    linear
        How convolutions and linear layers share.
    ledger
        Gets the constants.
    through_softmax
        Whether relevance also flows through attention weights, not only along them.
    """
    return {
        **dict.fromkeys(_ACTIVATIONS, partial(_secant, ledger)),
        **dict.fromkeys(_DETACHED, _detached),
        **{name: partial(_product, first) for name, first in _PRODUCTS.items()},
        **dict.fromkeys(("add", "sub", "rsub"), partial(_sum, ledger)),
        **dict.fromkeys(("cat", "stack", "hstack", "vstack"), partial(_joined, ledger)),
        **dict.fromkeys(_WEIGHTED, partial(_weighted, ledger, linear)),
        "where": partial(_chosen, ledger),
        "masked_fill": partial(_filled, ledger),
        "pow": partial(_power, ledger),
        "div": _quotient,
        **dict.fromkeys(("logsumexp", "log_softmax"), partial(_first_order, ledger)),
        "softmax": partial(_first_order, ledger) if through_softmax else _detached,
        "batch_norm": partial(_batch_norm, ledger),
    }


def _secant(ledger: Ledger, call: Call) -> Tensor:
    x = call.args[0]

    def function(values: Tensor) -> Tensor:
        answer: Tensor = call.function(values, *call.args[1:], **call.kwargs)
        return answer

    return _Secant.apply(x, function, ledger.remainder)  # type: ignore[no-any-return, no-untyped-call]


def _detached(call: Call) -> Any:
    with torch.no_grad():
        return call.native()


def _product(first: int, call: Call) -> Tensor:
    """Share among the factors that carry a signal, evenly; a constant only scales."""
    factors = list(call.args[first:])
    if len(factors) == 1 and isinstance(factors[0], tuple | list):
        factors = list(factors[0])
    carriers = sum(is_tracked(each) for each in factors)
    shared = [_Scaled.apply(each, 1 / carriers) if is_tracked(each) else each for each in factors]  # type: ignore[no-untyped-call]
    answer: Tensor = call.function(*call.args[:first], *shared, **call.kwargs)
    return answer


def _sum(ledger: Ledger, call: Call) -> Tensor:
    left, right = call.args[:2]
    terms = (_as_leaf(ledger, left, right), _as_leaf(ledger, right, left))
    answer: Tensor = call.function(*terms, *call.args[2:], **call.kwargs)
    return answer


def _joined(ledger: Ledger, call: Call) -> Tensor:
    parts = [each if is_tracked(each) else ledger.constant(each) for each in call.args[0]]
    answer: Tensor = call.function(parts, *call.args[1:], **call.kwargs)
    return answer


def _weighted(ledger: Ledger, rule: LinearRule, call: Call) -> Tensor:
    linear = weighted_of(call)
    if not is_tracked(linear.weight):
        return rule(linear, ledger.remainder)
    x, weight = (_Scaled.apply(each, 0.5) for each in (linear.x, linear.weight))  # type: ignore[no-untyped-call]
    return linear.of(x, weight, None if linear.bias is None else ledger.constant(linear.bias))


def _chosen(ledger: Ledger, call: Call) -> Tensor:
    condition, left, right = call.args
    answer: Tensor = call.function(
        condition, _as_leaf(ledger, left, right), _as_leaf(ledger, right, left)
    )
    return answer


def _filled(ledger: Ledger, call: Call) -> Tensor:
    """Fill with a leaf; minus infinity, which hides a token, carries nothing."""
    x, mask, value = call.args[0], call.argument(1, "mask"), call.argument(2, "value")
    fill = torch.as_tensor(value, dtype=x.dtype, device=x.device)
    if not bool(torch.isfinite(fill).all()):
        hidden: Tensor = x.masked_fill(mask, float(fill))
        return hidden
    return torch.where(mask, ledger.constant(fill), x)


def _power(ledger: Ledger, call: Call) -> Any:
    exponent = call.argument(1, "exponent")
    if isinstance(exponent, int | float) and exponent < 0:
        return _detached(call)
    return _secant(ledger, call)


def _quotient(call: Call) -> Tensor:
    divisor = call.args[1]
    constant = divisor.detach() if isinstance(divisor, Tensor) else divisor
    answer: Tensor = call.function(call.args[0], constant, *call.args[2:], **call.kwargs)
    return answer


def _first_order(ledger: Ledger, call: Call) -> Tensor:
    """Follow the derivative; what it does not explain of the value goes to the remainder."""
    value: Tensor = call.native()
    x, dim = call.args[0].detach(), call.argument(1, "dim")
    with torch.no_grad():
        weights = value if call.name == "softmax" else x.softmax(dim)
        # What is hidden by minus infinity has no weight and no part.
        seen = weights * torch.where(weights > 0, x, 0)
        explained = seen.sum(dim=dim, keepdim=value.ndim == x.ndim)
        if call.name == "softmax":
            explained = seen - weights * explained
        elif call.name == "log_softmax":
            explained = x - explained
        offset = value - explained
    return _Offset.apply(value, offset, ledger.remainder)  # type: ignore[no-any-return, no-untyped-call]


def _batch_norm(ledger: Ledger, call: Call) -> Tensor:
    """Return the affine form of batch normalization, with its shift as a leaf."""
    x = call.args[0]
    # torch has two signatures: that of its modules, and the one beneath.
    order = ("running_mean", "running_var", "weight", "bias")
    if call.function is torch.batch_norm:
        order = ("weight", "bias", "running_mean", "running_var")
    given = {key: call.argument(place, key) for place, key in enumerate(order, start=1)}
    mean, variance = given["running_mean"], given["running_var"]
    axes = (0, *range(2, x.ndim))
    if mean is None or variance is None:
        # Statistics of the batch: the deviation is detached, the mean carries.
        variance = x.detach().var(axes, unbiased=False)
        x, mean = x - x.mean(axes, keepdim=True), torch.zeros_like(variance)
    eps = call.argument(7, "eps", 1e-5)
    weight = torch.ones_like(variance) if given["weight"] is None else given["weight"]
    shift = -mean * weight / (variance + eps).sqrt()
    shift = shift if given["bias"] is None else shift + given["bias"]
    zero = torch.zeros_like(mean)
    return functional.batch_norm(x, zero, variance, weight, ledger.constant(shift), eps=eps)


def _as_leaf(ledger: Ledger, value: object, beside: object) -> object:
    """Return a constant that stands beside a signal as a leaf; a signal and zero as they are."""
    if (
        is_tracked(value)
        or not is_tracked(beside)
        or (isinstance(value, int | float) and not value)
    ):
        return value
    like = beside if isinstance(beside, Tensor) else torch.zeros(())
    return ledger.constant(torch.as_tensor(value, dtype=like.dtype, device=like.device))


class _Secant(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, x: Tensor, function: Any, remainder: Tensor) -> Tensor:  # noqa: ARG004
        value: Tensor = function(x)
        at_zero: Tensor = function(torch.zeros_like(x[..., :1].flatten()[:1]))
        ratio = torch.where(x == 0, 0, (value - at_zero) / x)
        context.save_for_backward(ratio, at_zero)
        return value.clone() if value is x else value

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None, Tensor]:
        ratio, at_zero = context.saved_tensors
        return gradient * ratio, None, total(gradient) * at_zero[0]


class _Scaled(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, x: Tensor, factor: float) -> Tensor:
        context.factor = factor
        return x.view_as(x)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient * context.factor, None


class _Offset(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, x: Tensor, offset: Tensor, remainder: Tensor) -> Tensor:  # noqa: ARG004
        context.save_for_backward(offset)
        return x.clone()

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None, Tensor]:
        (offset,) = context.saved_tensors
        return gradient, None, total(gradient * offset)
