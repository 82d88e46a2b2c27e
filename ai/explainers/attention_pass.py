"""One pass through a network that keeps what its tokens attended to.

An attention matrix is the result of a softmax, whatever module computes it. So it is taken where
the function is called, by a ``torch.overrides.TorchFunctionMode``, and not from modules of a
certain class or name: MONAI's blocks with or without flash attention, torch's own
``MultiheadAttention`` and handwritten ones are met alike, no hook is set, and the matrix is the one
that the network goes on with, so that it has a gradient. (MONAI's ``save_attn`` keeps a detached
copy, which has none.) Attention that torch computes in one call is written out meanwhile, see
``compositions.py``.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from ai.errors import ExplanationCancelledError, UnsuitableLayerError
from ai.explainers.admission import (
    DEFAULTS,
    admit,
    differentiating,
    evaluate,
    require_forwards,
    require_transparent,
)
from ai.explainers.compositions import multi_head_attention_forward, scaled_dot_product_attention
from ai.explainers.functions import Call, Intercepted
from ai.explainers.metering import Meter
from ai.explainers.tokens import TokenGrid, grid_in
from ai.model import Settings, Target

#: What torch computes in one call, without showing the matrix.
_WRITTEN_OUT: Mapping[str, Callable[..., Any]] = {
    "multi_head_attention_forward": multi_head_attention_forward,
    "scaled_dot_product_attention": scaled_dot_product_attention,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Attended:
    """The attention of one forward pass, or what was made of it."""

    #: Where the tokens lie; None where they are the instances of a bag [B, N, C, *S].
    grid: TokenGrid | None
    #: [B, H, N, N] each, from the first layer to the last; row i is what token i attends to.
    layers: tuple[Tensor, ...]
    #: [B, H, N], weights by which attention pools the tokens at the end; None where none does.
    pool: Tensor | None
    #: [B], the target's value.
    f_x: Tensor
    #: What was kept for it, the gradient graph included.
    kept_bytes: int
    warnings: tuple[str, ...]


class Watch:
    """Keeps the attention that a network computes.

    Parameters
    ----------
    x
        The input, [B, C, *S].
    keep
        Called with each matrix [B, H, N, N] as it comes; what it returns is kept.
    """

    def __init__(self, x: Tensor, keep: Callable[[Tensor], Tensor]) -> None:
        self._batch = x.shape[0]
        self._keep = keep
        #: What ``keep`` made of the matrices between tokens, in the order they were met.
        self.layers: list[Tensor] = []
        #: Weights [B, H, N] of one place to all tokens.
        self.pools: list[Tensor] = []
        #: Shapes of other attention: within windows, or from some tokens to others.
        self.others: list[tuple[int, ...]] = []
        #: How many rows linear layers were given: tokens are among them, channels are not.
        self.rows: set[int] = set()
        #: Bytes of the largest matrix.
        self.widest = 0

    def answer(self, call: Call) -> Any:
        """Run one call, and keep what it gave if it is attention."""
        answer = call.native()
        if call.name == "linear":
            self.rows.update(answer.shape[:-1])
        if call.name != "softmax":
            return answer
        dim = call.argument(1, "dim")
        return answer if dim is None else self._watched(answer, dim % answer.ndim)

    def _watched(self, weights: Tensor, dim: int) -> Tensor:
        """Keep the result of a softmax if it is attention; the network goes on with the answer."""
        shape, last = tuple(weights.shape), dim == weights.ndim - 1
        if last and self._between_tokens(shape):
            held = _in_graph(weights.reshape(self._batch, -1, *shape[-2:]))
            self.widest = max(self.widest, held.nbytes)
            self.layers.append(self._keep(held))
            return held.clone().reshape(shape)
        from_one = last and len(shape) == 4 and shape[2] == 1  # [B, H, 1, N]
        over_all = dim == 1 and len(shape) == 3 and shape[2] == 1  # [B, N, 1]
        if (from_one or over_all) and shape[0] == self._batch and weights.shape[dim] > 1:
            held = _in_graph(weights.reshape(self._batch, -1, weights.shape[dim]))
            self.pools.append(held)
            return held.clone().reshape(shape)
        if last and len(shape) >= 4:
            self.others.append(shape)
        return weights

    def _between_tokens(self, shape: tuple[int, ...]) -> bool:
        if len(shape) not in {3, 4} or shape[-1] != shape[-2] or shape[-1] < 2:
            return False
        # Heads may be folded into the batch. So are windows, but those have heads besides.
        return shape[0] == self._batch or (len(shape) == 3 and shape[0] % self._batch == 0)


def attended(
    network: nn.Module,
    x: Tensor,
    target: Target,
    settings: Settings,
    *,
    method: str,
    fuse: Callable[[Tensor], Tensor],
) -> Attended:
    """Return the attention of one forward pass, its heads fused.

    Parameters
    ----------
    network
        In evaluation mode; untouched.
    x
        float [B, C, *S], or bags of instances [B, N, C, *S].
    target
        Evaluated, not explained.
    settings
        Its budget counts.
    method
        Name for messages.
    fuse
        From [B, H, N, N] to [B, 1, N, N], as the matrices come: so they are never all there.

    Raises
    ------
    ExplanationError
        TrainingModeError, InputTensorError, OpaqueNetworkError, TargetError, BudgetError,
        ExplanationCancelledError; UnsuitableLayerError if no attention runs between all patches.
    """
    frozen, plain, meter = _admitted(network, x, settings, method)
    found, output = _forward(frozen, plain, method, fuse)
    value = evaluate(target, output, plain)
    meter.spend(1)
    return replace(found, f_x=value)


def attended_with_gradients(
    network: nn.Module, x: Tensor, target: Target, settings: Settings, *, method: str
) -> Attended:
    """Return attention times the target's gradient at it; parameters and errors as ``attended``.

    The gradient graph begins at the first attention matrix: what lies before costs no memory. Where
    the target does not depend on some attention, its product is zero.
    """
    frozen, plain, meter = _admitted(network, x, settings, method)
    with differentiating():
        found, output = _recorded(frozen, plain, method)
        value = evaluate(target, output, plain)
        held = [*found.layers, *([] if found.pool is None else [found.pool])]
        gradients = _gradients(value, held)
    meter.spend(1)
    products = [each.detach() * gradient for each, gradient in zip(held, gradients, strict=True)]
    return replace(
        found,
        layers=tuple(products[: len(found.layers)]),
        pool=None if found.pool is None else products[-1],
        f_x=value.detach(),
    )


def attention_bytes(
    network: nn.Module, x: Tensor, *, method: str, fuse: Callable[[Tensor], Tensor]
) -> int:
    """Return what ``attended`` keeps; costs a forward pass of one entry and raises as it does."""
    frozen, plain, _ = _admitted(network, x[:1], DEFAULTS, method)
    found, _ = _forward(frozen, plain, method, fuse)
    return found.kept_bytes * x.shape[0]


def gradient_bytes(network: nn.Module, x: Tensor, *, method: str) -> int:
    """Return what ``attended_with_gradients`` keeps, as ``attention_bytes`` does."""
    frozen, plain, _ = _admitted(network, x[:1], DEFAULTS, method)
    with differentiating():
        found, _ = _recorded(frozen, plain, method)
    return found.kept_bytes * x.shape[0]


def _admitted(
    network: nn.Module, x: Tensor, settings: Settings, method: str
) -> tuple[nn.Module, Tensor, Meter]:
    for module in network.modules():
        require_transparent(module, method)
    require_forwards(settings, 1, method)
    frozen, plain = admit(network, x)
    meter = Meter(settings.budget, 1)
    if meter.cancelled:
        raise ExplanationCancelledError(f"{method}: cancelled before the forward pass")
    return frozen, plain, meter


def _forward(
    network: nn.Module, x: Tensor, method: str, keep: Callable[[Tensor], Tensor]
) -> tuple[Attended, object]:
    """Return the attention of one pass, without the target's value, and the network's output."""
    watch = Watch(x, keep)
    with Intercepted(watch.answer, _WRITTEN_OUT):
        output = network(x.clone())
    found = _laid_out(watch, network, x, method)
    # The largest matrix is there twice while its heads are fused.
    kept = sum(each.nbytes for each in watch.layers) + 2 * watch.widest
    return replace(found, kept_bytes=kept), output


def _recorded(network: nn.Module, x: Tensor, method: str) -> tuple[Attended, object]:
    """Return the same with a gradient graph, and count what that keeps."""
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with saved_tensors_hooks(note, lambda tensor: tensor):
        found, output = _forward(network, x, method, lambda matrix: matrix)
    for weights in (*network.parameters(), *network.buffers()):
        kept.pop(weights.untyped_storage().data_ptr(), None)
    gradients = sum(each.nbytes for each in found.layers)
    return replace(found, kept_bytes=sum(kept.values()) + gradients), output


def _in_graph(weights: Tensor) -> Tensor:
    """Return weights that have a gradient where gradients are recorded."""
    if not torch.is_grad_enabled() or weights.requires_grad:
        return weights
    return weights.detach().requires_grad_()


def _laid_out(watch: Watch, network: nn.Module, x: Tensor, method: str) -> Attended:
    """Return what of all that was met runs between a bag's instances or an image's patches."""
    of_bag = [each for each in watch.pools if x.ndim > 3 and each.shape[-1] == x.shape[1]]
    grid = None if of_bag else _grid(watch, network, x, method)
    tokens = grid.tokens if grid else x.shape[1]
    pools = [each for each in watch.pools if each.shape[-1] == tokens]
    matrices = [*watch.layers, *watch.pools]
    others = [*watch.others, *(tuple(e.shape) for e in matrices if e.shape[-1] != tokens)]
    return Attended(
        grid=grid,
        layers=tuple(each for each in watch.layers if each.shape[-1] == tokens),
        pool=pools[-1] if pools else None,
        f_x=x.new_zeros(0),
        kept_bytes=0,
        warnings=tuple(dict.fromkeys(f"attention {shape} is left out" for shape in others)),
    )


def _grid(watch: Watch, network: nn.Module, x: Tensor, method: str) -> TokenGrid:
    sizes = list(dict.fromkeys(each.shape[-1] for each in watch.layers))
    windows = [shape for shape in watch.others if shape[-1] == shape[-2]]
    across = [shape for shape in watch.others if shape[-1] != shape[-2]]
    if windows:
        trouble = f"is not defined on attention inside windows {windows[0]}, as Swin shifts them"
    elif not sizes:
        trouble = "needs attention between patches, and the network has none"
    elif across:
        trouble = (
            f"needs attention among the same tokens, and here some attend to others {across[0]}"
        )
    elif len(sizes) > 1:
        trouble = f"follows the same tokens through all layers, and there are {sizes} of them"
    elif sizes[0] not in watch.rows:
        trouble = f"needs attention between patches, and its {sizes[0]} rows are none: channels?"
    else:
        return grid_in(network, sizes[0], x.shape[2:])
    raise UnsuitableLayerError(f"{method} {trouble}; use layer_cam or lrp")


def _gradients(value: Tensor, held: list[Tensor]) -> list[Tensor]:
    found: Sequence[Tensor | None] = [None]
    if value.requires_grad:
        found = torch.autograd.grad(value.sum(), held, allow_unused=True)
    if all(each is None for each in found):
        raise UnsuitableLayerError("the target does not depend on the network's attention")
    return [
        torch.zeros_like(each) if gradient is None else gradient
        for each, gradient in zip(held, found, strict=True)
    ]
