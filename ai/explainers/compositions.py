"""Composite functions of torch, written in elementary ones that rules are made for.

torch offers attention and normalization as one function each. Rules of attribution are known for
their parts: these forms have the same value, up to rounding, and show the parts.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ai.errors import UndifferentiableError, UnsuitableLayerError


def layer_norm(
    x: Tensor,
    normalized_shape: tuple[int, ...],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Return ``torch.nn.functional.layer_norm`` (Ba, Kiros and Hinton 2016)."""
    normed = _standardized(x, tuple(range(-len(normalized_shape), 0)), eps)
    return _affine(normed, weight, bias)


def group_norm(
    x: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Return ``torch.nn.functional.group_norm`` (Wu and He 2018)."""
    groups = x.reshape(x.shape[0], num_groups, -1)
    normed = _standardized(groups, (2,), eps).reshape(x.shape)
    return _affine(normed, _along_channels(weight, x), _along_channels(bias, x))


def instance_norm(  # noqa: PLR0913, PLR0917 - torch's signature
    x: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,  # noqa: ARG001
    eps: float = 1e-5,
) -> Tensor:
    """Return ``torch.nn.functional.instance_norm`` (Ulyanov, Vedaldi and Lempitsky 2016)."""
    if use_input_stats or running_mean is None or running_var is None:
        axes = tuple(range(2, x.ndim))
        return _affine(
            x - x.mean(axes, keepdim=True),
            # One number a channel: cheaper to scale first.
            _affine(_inverse_deviation(x, axes, eps), _along_channels(weight, x), None),
            _along_channels(bias, x),
        )
    return functional.batch_norm(x, running_mean, running_var, weight, bias, eps=eps)


def scaled_dot_product_attention(  # noqa: PLR0913, PLR0917 - torch's signature
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,  # noqa: ARG001 - an explained network drops nothing
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """Return ``torch.nn.functional.scaled_dot_product_attention`` (Vaswani et al. 2017)."""
    if enable_gqa:
        repeats = query.shape[-3] // key.shape[-3]
        key, value = (each.repeat_interleave(repeats, -3) for each in (key, value))
    logits = (query @ key.transpose(-2, -1)) * (query.shape[-1] ** -0.5 if scale is None else scale)
    if is_causal:
        seen = torch.ones(logits.shape[-2:], dtype=torch.bool, device=logits.device).tril()
        logits = logits.masked_fill(~seen, float("-inf"))
    if attn_mask is not None:
        hidden = attn_mask.dtype == torch.bool
        logits = logits.masked_fill(~attn_mask, float("-inf")) if hidden else logits + attn_mask
    return logits.softmax(dim=-1) @ value


def multi_head_attention_forward(  # noqa: PLR0913, PLR0917 - torch's signature
    query: Tensor,
    key: Tensor,
    value: Tensor,
    embed_dim_to_check: int,
    num_heads: int,
    in_proj_weight: Tensor | None,
    in_proj_bias: Tensor | None,
    bias_k: Tensor | None,
    bias_v: Tensor | None,
    add_zero_attn: bool,
    dropout_p: float,  # noqa: ARG001 - an explained network drops nothing
    out_proj_weight: Tensor,
    out_proj_bias: Tensor | None,
    **others: Any,
) -> tuple[Tensor, None]:
    """Return ``torch.nn.functional.multi_head_attention_forward`` without its weights.

    Raises
    ------
    UnsuitableLayerError
        For key padding, added keys and separate projections, which no imaging network here uses.
    """
    unusual = (bias_k, bias_v, others.get("key_padding_mask"))
    if in_proj_weight is None or add_zero_attn or any(each is not None for each in unusual):
        raise UnsuitableLayerError(
            "attention cannot be written out: multi-head attention with padding, added keys or "
            "projections of their own"
        )
    weights = in_proj_weight.chunk(3)
    biases = (None,) * 3 if in_proj_bias is None else in_proj_bias.chunk(3)
    heads = [
        functional.linear(each, weight, bias)
        .reshape(*each.shape[:-1], num_heads, embed_dim_to_check // num_heads)
        .movedim(0, -2)
        for each, weight, bias in zip((query, key, value), weights, biases, strict=True)
    ]
    mask = _per_head(others.get("attn_mask"), heads[0])
    mixed = scaled_dot_product_attention(heads[0], heads[1], heads[2], attn_mask=mask)
    joined = mixed.movedim(-2, 0).flatten(-2)
    return functional.linear(joined, out_proj_weight, out_proj_bias), None


def normalize(x: Tensor, p: float = 2.0, dim: int = 1, eps: float = 1e-12) -> Tensor:
    """Return ``torch.nn.functional.normalize``."""
    size: Tensor = x.norm(p, dim, keepdim=True)
    return x / size.clamp_min(eps)


def glu(x: Tensor, dim: int = -1) -> Tensor:
    """Return ``torch.nn.functional.glu`` (Dauphin et al. 2017)."""
    signal, gate = x.chunk(2, dim)
    return signal * gate.sigmoid()


def var(
    x: Tensor,
    dim: int | tuple[int, ...] | bool | None = None,
    unbiased: bool = True,
    keepdim: bool = False,
    *,
    correction: int | None = None,
) -> Tensor:
    """Return ``torch.var``."""
    # torch takes ``var(x, False)`` too.
    biased = not unbiased or dim is False
    whole = dim is None or isinstance(dim, bool)
    axes = tuple(range(x.ndim)) if whole else (dim,) if isinstance(dim, int) else tuple(dim or ())
    count = math.prod(x.shape[axis] for axis in axes)
    lost = int(not biased) if correction is None else correction
    squares = (x - x.mean(axes, keepdim=True)).square()
    return squares.sum(axes, keepdim=keepdim) / (count - lost)


def std(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """Return ``torch.std``."""
    return var(x, *args, **kwargs).sqrt()


def norm(
    x: Tensor,
    p: float | str | None = 2.0,
    dim: int | tuple[int, ...] | None = None,
    keepdim: bool = False,
) -> Tensor:
    """Return ``torch.norm`` of a finite order.

    Raises
    ------
    UndifferentiableError
        For other orders.
    """
    order = 2.0 if p in (None, "fro") else p
    if not isinstance(order, int | float) or not 0 < order < math.inf:
        raise UndifferentiableError(f"there is no rule for a norm of order {p}")
    axes = tuple(range(x.ndim)) if dim is None else dim
    if order == 2:
        return x.square().sum(axes, keepdim=keepdim).sqrt()
    powers: Tensor = x.abs() ** order
    root: Tensor = powers.sum(axes, keepdim=keepdim) ** (1 / order)
    return root


#: By the name of the function that each stands for.
COMPOSITIONS: Mapping[str, Callable[..., Any]] = {
    each.__name__: each
    for each in (
        glu,
        group_norm,
        instance_norm,
        layer_norm,
        multi_head_attention_forward,
        normalize,
        scaled_dot_product_attention,
    )
}


def _standardized(x: Tensor, axes: tuple[int, ...], eps: float) -> Tensor:
    return (x - x.mean(axes, keepdim=True)) * _inverse_deviation(x, axes, eps)


def _inverse_deviation(x: Tensor, axes: tuple[int, ...], eps: float) -> Tensor:
    return (x.var(axes, unbiased=False, keepdim=True) + eps).rsqrt()


def _affine(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    scaled = x if weight is None else x * weight
    return scaled if bias is None else scaled + bias


def _along_channels(values: Tensor | None, x: Tensor) -> Tensor | None:
    return None if values is None else values.reshape(1, -1, *(1,) * (x.ndim - 2))


def _per_head(mask: Tensor | None, query: Tensor) -> Tensor | None:
    """Return an attention mask in the shape of the logits, [B, heads, N, N]."""
    if mask is None or mask.ndim == 2:
        return mask
    return mask.reshape(*query.shape[:-2], *mask.shape[-2:])
