"""Running a network's functions by rules of ours, without touching the network.

A network is a sequence of calls of torch's functions, whatever modules make them. Inside a
``torch.overrides.TorchFunctionMode`` each call passes through one method, which may answer it
differently: with the value that torch would give and another gradient. So no module is replaced,
no hook is set, and a layer that is used twice, an operation in place, a skip connection or a gate
that is written as plain arithmetic is met like any other. It cannot see into TorchScript, compiled
graphs or custom autograd functions, which are one call or none.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ai.explainers.compositions import COMPOSITIONS

#: Names of one function; the key is how rules call it.
_ALIASES = {
    "iadd": "add",
    "radd": "add",
    "isub": "sub",
    "subtract": "sub",
    "rsubtract": "rsub",
    "imul": "mul",
    "rmul": "mul",
    "multiply": "mul",
    "idiv": "div",
    "itruediv": "div",
    "truediv": "div",
    "true_divide": "div",
    "divide": "div",
    "rtruediv": "rdiv",
    "ipow": "pow",
    "concat": "cat",
    "concatenate": "cat",
    "clip": "clamp",
    "swish": "silu",
    "special_expit": "sigmoid",
    "adaptive_max_pool1d_with_indices": "adaptive_max_pool1d",
    "adaptive_max_pool2d_with_indices": "adaptive_max_pool2d",
    "adaptive_max_pool3d_with_indices": "adaptive_max_pool3d",
    "max_pool1d_with_indices": "max_pool1d",
    "max_pool2d_with_indices": "max_pool2d",
    "max_pool3d_with_indices": "max_pool3d",
}

#: Where functions of ``torch.nn.functional`` take ``inplace``, which modules give by position.
_IN_PLACE_POSITION = {
    "celu": 2,
    "dropout": 3,
    "elu": 2,
    "hardsigmoid": 1,
    "hardswish": 1,
    "hardtanh": 3,
    "leaky_relu": 2,
    "mish": 1,
    "relu": 1,
    "relu6": 1,
    "rrelu": 4,
    "selu": 1,
    "silu": 1,
    "threshold": 3,
}


def names(text: str) -> frozenset[str]:
    """Return the words of a text, as names of functions."""
    return frozenset(text.split())


#: Functions that are linear in what flows through them, whatever rule is asked: they move, pick,
#: weigh and add up.
LINEAR = names(
    """
    adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d alpha_dropout as_strided atleast_1d
    atleast_2d atleast_3d avg_pool1d avg_pool2d avg_pool3d broadcast_to channel_shuffle chunk clone
    constant_pad_nd contiguous conv1d conv2d conv3d conv_transpose1d conv_transpose2d
    conv_transpose3d copy cumsum detach diagonal double dropout dropout1d dropout2d dropout3d
    dsplit expand expand_as feature_alpha_dropout feature_dropout flatten flip float fold gather get
    getitem grid_sample half hsplit identity index_select interpolate linear mean moveaxis movedim
    narrow neg negative pad permute pixel_shuffle pixel_unshuffle pos positive repeat
    repeat_interleave requires_grad reshape reshape_as roll rot90 select setitem slice split
    split_with_sizes squeeze sum swapaxes swapdims t take take_along_dim tensor_split tile to trace
    transpose tril triu type type_as unbind unflatten unfold unsqueeze upsample upsample_bilinear
    upsample_nearest view view_as vsplit
    """
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call of a torch function by a network, in place or not."""

    #: Without underscores and aliases: ``add`` for ``Tensor.__iadd__`` and ``torch.add_`` alike.
    name: str
    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    #: Whether the first argument is to be overwritten with the result.
    in_place: bool

    def native(self) -> Any:
        """Return what torch answers, and do to the arguments what it does."""
        return self.function(*self.args, **self.kwargs)

    @property
    def carries(self) -> bool:
        """Whether a gradient flows through an argument."""
        return is_tracked((*self.args, *self.kwargs.values()))

    def apart(self) -> "Call":
        """Return the call with its result in memory of its own."""
        if not self.in_place:
            return self
        position = _IN_PLACE_POSITION.get(self.name, len(self.args))
        return replace(
            self,
            function=_apart(self.function),
            args=self.args[:position],
            kwargs={key: value for key, value in self.kwargs.items() if key != "inplace"},
            in_place=False,
        )

    def by(self, form: Callable[..., Any]) -> Any:
        """Return the answer of a form that takes the arguments that are not None."""
        given = {key: value for key, value in self.kwargs.items() if value is not None}
        return form(*self.args, **given)

    def argument(self, position: int, key: str, default: Any = None) -> Any:
        """Return an argument that may be given by position or by name."""
        if position < len(self.args):
            return self.args[position]
        return self.kwargs.get(key, default)


#: From a call, not in place, to the value that torch would give, with a gradient of its own.
Rule = Callable[[Call], Any]


class Intercepted(TorchFunctionMode):
    """Inside this context, every call of a torch function is handed to a function of ours.

    Parameters
    ----------
    answer
        From a call to what the network gets for it.
    forms
        Composite functions, written in others: those are handed over in their place.
    """

    def __init__(
        self,
        answer: Callable[[Call], Any],
        forms: Mapping[str, Callable[..., Any]] = COMPOSITIONS,
    ) -> None:
        super().__init__()
        self._answer = answer
        self._forms = forms

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Answer one call; torch switches the context off meanwhile."""
        call = call_of(func, args, kwargs or {})
        if call.name in self._forms:
            with self:
                return call.by(self._forms[call.name])
        return self._answer(call)


class Ruled:
    """Answers the functions named in a table by their rules.

    Parameters
    ----------
    rules
        By name of the function.
    understood
        Names of functions whose own gradient is right as it is.
    """

    def __init__(self, rules: Mapping[str, Rule], understood: frozenset[str]) -> None:
        self._rules = rules
        self._understood = understood
        #: Functions that carried a gradient and are in neither table, in the order they were met.
        self.strangers: dict[str, None] = {}

    def answer(self, call: Call) -> Any:
        """Return the rule's answer, or torch's own where nothing flows or no rule is known."""
        if not call.carries:
            return call.native()
        if call.name in self._rules:
            return answered_by(self._rules[call.name], call)
        answer = call.native()
        if call.name not in self._understood and is_tracked(answer):
            self.strangers[call.name] = None
        return answer


def call_of(function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Call:
    """Return a call as rules want it: by a common name, its operands by position."""
    args, kwargs = _by_position(args, kwargs)
    raw = getattr(function, "__name__", "")
    bare = raw.strip("_")
    dunder = raw.startswith("__")
    name = _ALIASES.get(bare, bare)
    position = _IN_PLACE_POSITION.get(name, len(args))
    in_place = (
        bool(kwargs.get("inplace"))
        or (position < len(args) and args[position] is True)
        or (raw.endswith("_") and not dunder)
        or (dunder and bare in _ALIASES and bare.startswith("i"))
        or raw == "__setitem__"
    )
    return Call(name=name, function=function, args=args, kwargs=kwargs, in_place=in_place)


def answered_by(rule: Rule, call: Call) -> Any:
    """Return the rule's answer; a call in place also finds it in its first argument."""
    answer = rule(call.apart())
    if not call.in_place:
        return answer
    overwritten: Tensor = call.args[0]
    if not is_tracked(answer) and overwritten.grad_fn is not None and overwritten._base is None:  # noqa: SLF001
        overwritten.detach_()
    return overwritten.copy_(answer)


def is_tracked(value: object) -> bool:
    """Return whether a gradient flows through a value: a tensor or a sequence of them."""
    if isinstance(value, Tensor):
        return value.requires_grad
    return isinstance(value, tuple | list) and any(is_tracked(each) for each in value)


def without_custom_gradients(network: nn.Module) -> nn.Module:
    """Return a private copy whose memory-efficient swish is torch's own.

    MONAI's saves memory by an autograd function, which rules cannot see. To be given a private copy
    (``ai.capture.private_copy``), which is changed.
    """
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if type(child).__name__ == "MemoryEfficientSwish":
                setattr(parent, name, nn.SiLU().eval())
    return network


def _by_position(
    args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
    named = dict(kwargs)
    if not args and "input" in named:
        args = (named.pop("input"),)
    if len(args) == 1 and "other" in named:
        args = (*args, named.pop("other"))
    return args, named


def _apart(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function that does the same and overwrites nothing."""
    raw = getattr(function, "__name__", "")
    bare = raw.strip("_")
    plain = _ALIASES.get(bare, bare) if raw.startswith("__") else bare
    for home in (torch, nn.functional, Tensor):
        found = getattr(home, plain, None)
        if callable(found):
            return cast("Callable[..., Any]", found)
    return function
