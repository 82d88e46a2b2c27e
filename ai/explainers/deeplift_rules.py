"""The rules of DeepLIFT: the slope of each function between a reference and the image.

Shrikumar, Greenside and Kundaje 2017. The network runs twice: on the reference a ``Tape`` keeps
what flows into each function that is not linear, and on the image each of them gets slopes m with

    sum of m (x - x0)  =  y - y0

exactly. So the image less the reference, times what arrives at the input, sums to what the target
gained. Two runs, not one batch of two: nothing is assumed of where a network has its batch, and
windows, instances or tokens may be folded into it.

| function | slope |
|---|---|
| of one argument: activations, powers, roots | y - y0 over x - x0; the derivative where x is x0 |
| product, matrix product | each factor by the mean of the other's two values |
| quotient | as the product with the reciprocal |
| maximum, max pooling | of the greater of both maxima, over the change of its own place |
| softmax | as exponential, sum, reciprocal and product |
| normalization | as centering, square, reciprocal root and product |
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ai.errors import UndifferentiableError
from ai.explainers.compositions import COMPOSITIONS, norm, std, var
from ai.explainers.functions import LINEAR, Call, answered_by, is_tracked, names
from ai.explainers.slopes import grafted, logsumexp_slope, slope_of, softmax_slope

#: Functions whose own gradient is exact: linear in all that flows through them together.
_UNDERSTOOD = LINEAR | names("add batch_norm cat hstack rsub stack sub vstack")
_ONE_ARGUMENT = names(
    """
    abs absolute celu clamp clamp_max clamp_min cos elu erf exp expm1 gelu hardshrink hardsigmoid
    hardswish hardtanh leaky_relu log log1p logsigmoid mish pow prelu rdiv reciprocal relu relu6
    rrelu rsqrt selu sigmoid silu sin softplus softshrink softsign sqrt square tanh tanhshrink
    threshold
    """
)
_PRODUCTS = names("bmm dot einsum matmul mm mul mv")
_MAX_POOLS = frozenset(f"{kind}max_pool{n}d" for kind in ("", "adaptive_") for n in (1, 2, 3))
#: Composite functions, written in those that have rules.
FORMS: Mapping[str, Callable[..., Any]] = {
    **COMPOSITIONS,
    "norm": norm,
    "std": std,
    "var": var,
    "vector_norm": norm,
}


@dataclass(slots=True)
class _Entry:
    """The arguments of one call on the reference."""

    name: str
    args: tuple[Any, ...]


class Tape:
    """Keeps, while a network runs on a reference, what its functions that have rules are given."""

    def __init__(self) -> None:
        self.entries: list[_Entry] = []
        #: By where in memory their arguments are.
        self._holders: dict[int, list[_Entry]] = {}

    def answer(self, call: Call) -> Any:
        """Run one call and keep its arguments."""
        if call.name in _RULES:
            self._keep(_Entry(call.name, tuple(_detached(each) for each in call.args)))
        if call.in_place:
            self._save_from(call.args[0])
        return call.native()

    def _keep(self, entry: _Entry) -> None:
        self.entries.append(entry)
        for each in entry.args:
            if isinstance(each, Tensor):
                self._holders.setdefault(_place(each), []).append(entry)

    def _save_from(self, overwritten: Tensor) -> None:
        """Copy what is kept in memory that is about to be overwritten."""
        place = _place(overwritten)
        for entry in self._holders.pop(place, ()):
            entry.args = tuple(
                each.clone() if isinstance(each, Tensor) and _place(each) == place else each
                for each in entry.args
            )


class Slopes:
    """Answers, while the network runs on the image, each function with its slope.

    Raises
    ------
    UndifferentiableError
        If the network calls other functions than it did on the reference.
    """

    def __init__(self, tape: Tape) -> None:
        self._entries = iter(tape.entries)
        #: Functions that carried a gradient and have no rule, in the order they were met.
        self.strangers: dict[str, None] = {}

    def answer(self, call: Call) -> Any:
        """Return the answer of the rule, or torch's own."""
        rule = _RULES.get(call.name)
        if rule is not None:
            entry = self._entry_of(call)
            if call.carries:
                return answered_by(lambda apart: rule(apart, entry.args), call)
        answer = call.native()
        if rule is None and call.name not in _UNDERSTOOD and is_tracked(answer):
            self.strangers[call.name] = None
        return answer

    def _entry_of(self, call: Call) -> _Entry:
        entry = next(self._entries, None)
        if entry is None or entry.name != call.name:
            raise UndifferentiableError(
                f"the network calls {call.name} on the image and "
                f"{entry.name if entry else 'nothing more'} on the reference: it takes another way"
            )
        return entry


def _detached(value: object) -> object:
    return value.detach() if isinstance(value, Tensor) else value


def _place(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _one_argument(call: Call, reference: tuple[Any, ...]) -> Tensor:
    def function(values: Tensor) -> Tensor:
        answer: Tensor = call.function(values, *call.args[1:], **call.kwargs)
        return answer

    return slope_of(function, call.args[0], reference[0])


def _product(call: Call, reference: tuple[Any, ...]) -> Tensor:
    places = [place for place, each in enumerate(call.args) if is_tracked(each)]
    if len(places) < 2:
        answer: Tensor = call.native()
        return answer
    first, second = places  # more factors at once are torch.einsum's alone, and nobody's here

    def with_mean(place: int) -> Tensor:
        mean = (call.args[place].detach() + reference[place]) / 2
        args = [*call.args[:place], mean, *call.args[place + 1 :]]
        part: Tensor = call.function(*args, **call.kwargs)
        return part

    return grafted(with_mean(second) + with_mean(first), _value(call))


def _quotient(call: Call, reference: tuple[Any, ...]) -> Tensor:
    dividend, divisor = call.args[:2]
    if not is_tracked(divisor):
        answer: Tensor = call.native()
        return answer
    inverse = slope_of(torch.reciprocal, divisor, reference[1])
    mean_inverse = (inverse.detach() + 1 / reference[1]) / 2
    mean_dividend = (torch.as_tensor(dividend).detach() + reference[0]) / 2
    carried = dividend * mean_inverse if is_tracked(dividend) else 0.0
    return grafted(carried + mean_dividend * inverse, _value(call))


def _softmax(call: Call, reference: tuple[Any, ...]) -> Tensor:
    dim: int = call.argument(1, "dim")
    return softmax_slope(call.args[0], reference[0], dim)


def _logsumexp(call: Call, reference: tuple[Any, ...]) -> Tensor:
    dim = call.argument(1, "dim")
    axes = (dim,) if isinstance(dim, int) else tuple(dim)
    keepdim = bool(call.argument(2, "keepdim", default=False))
    return logsumexp_slope(call.args[0], reference[0], axes, keepdim)


def _log_softmax(call: Call, reference: tuple[Any, ...]) -> Tensor:
    x: Tensor = call.args[0]
    dim: int = call.argument(1, "dim")
    return x - logsumexp_slope(x, reference[0], (dim,), keepdim=True)


def _max_pool(call: Call, reference: tuple[Any, ...]) -> Any:
    x, axes = call.args[0], int(call.name[-2])
    pool = getattr(functional, call.name)
    kwargs = {**call.kwargs, "return_indices": True}
    with torch.no_grad():
        value, place = pool(x.detach(), *call.args[1:6], **kwargs)
        before, place_before = pool(reference[0], *call.args[1:6], **kwargs)
    value_of = _greatest(
        x.flatten(-axes), reference[0].flatten(-axes), -1,
        (value.flatten(-axes), before.flatten(-axes)),
        (place.flatten(-axes), place_before.flatten(-axes)),
    )  # fmt: skip
    pooled = value_of.reshape(value.shape)
    wanted = call.kwargs.get("return_indices") or (len(call.args) > 6 and call.args[6])
    return (pooled, place) if wanted else pooled


def _maximum_along(call: Call, reference: tuple[Any, ...]) -> Any:
    """Answer ``torch.max(x, dim)`` and ``torch.amax`` along one axis."""
    dim = call.argument(1, "dim")
    dim = dim[0] if isinstance(dim, tuple | list) and len(dim) == 1 else dim
    if not isinstance(dim, int):
        return call.native()
    keep = bool(call.argument(2, "keepdim", default=False))
    x = call.args[0]
    value, place = x.detach().max(dim, keepdim=True)
    before, place_before = reference[0].max(dim, keepdim=True)
    found = _greatest(x, reference[0], dim, (value, before), (place, place_before))
    found = found if keep else found.squeeze(dim)
    if call.name == "amax":
        return found
    return torch.return_types.max((found, place if keep else place.squeeze(dim)))


def _greatest(
    x: Tensor,
    reference: Tensor,
    dim: int,
    values: tuple[Tensor, Tensor],
    places: tuple[Tensor, Tensor],
) -> Tensor:
    """Return the maxima along an axis, with the cross-maximum's slope.

    Where the image's maximum is the greater one, its own place rose at least as much as the maximum
    did; where the reference's is, its place fell at least as much. Either takes the whole change,
    at a slope between 0 and 1.
    """
    (value, before), (place, place_before) = values, places
    chosen = torch.where(value >= before, place, place_before)
    there = x.gather(dim, chosen)
    change = there.detach() - reference.gather(dim, chosen)
    slope = torch.where(change == 0, 1, (value - before) / change)
    return grafted(there * slope, value)


def _larger(call: Call, reference: tuple[Any, ...]) -> Tensor:
    """Answer ``torch.maximum`` and ``torch.minimum`` of two signals."""
    sign = 1 if call.name == "maximum" else -1
    pair = _stacked(call.args) * sign
    before = _stacked(reference) * sign
    tops = (pair.detach().max(0, keepdim=True), before.max(0, keepdim=True))
    found = _greatest(pair, before, 0, (tops[0][0], tops[1][0]), (tops[0][1], tops[1][1]))
    return found[0] * sign


def _stacked(pair: tuple[Any, ...]) -> Tensor:
    return torch.stack(torch.broadcast_tensors(*pair[:2]))  # type: ignore[no-untyped-call]


def _value(call: Call) -> Tensor:
    with torch.no_grad():
        value: Tensor = call.native()
    return value


_RULES: Mapping[str, Callable[[Call, tuple[Any, ...]], Any]] = {
    **dict.fromkeys(_ONE_ARGUMENT, _one_argument),
    **dict.fromkeys(_PRODUCTS, _product),
    **dict.fromkeys(_MAX_POOLS, _max_pool),
    **dict.fromkeys(("max", "amax"), _maximum_along),
    **dict.fromkeys(("maximum", "minimum"), _larger),
    "div": _quotient,
    "log_softmax": _log_softmax,
    "logsumexp": _logsumexp,
    "softmax": _softmax,
}
