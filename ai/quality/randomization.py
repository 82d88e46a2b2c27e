"""Whether a map depends on what the network learned: forget that, and the map has to change.

Adebayo et al. 2018 found methods whose maps stay as they are when the weights are drawn anew: they
show the image, not the network. Hedström et al. 2024 repaired the test in two ways: eMPRT asks how
much more complex the map of a network without knowledge is, sMPRT compares maps that are averaged
over noisy copies of the image, layer by layer.
"""

import copy
from collections.abc import Callable, Collection
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ai.capture import gradients_off, private_copy
from ai.errors import MeasureError
from ai.quality.agreement import rank_agreement
from ai.quality.complexity import BINS, histogram_entropy
from ai.quality.robustness import noisy
from ai.quality.scoring import require_on_grid

#: From (network, x [B, C, *S]) to an attribution [B, C, *S] or [B, 1, *S].
Explain = Callable[[nn.Module, Tensor], Tensor]
#: Networks without knowledge that eMPRT asks.
DRAWS = 3
#: Noisy copies of the image that sMPRT averages over, and their noise, as a share of the deviation.
SAMPLES = 8
SMOOTHING_NOISE = 0.1
#: Steps in which sMPRT randomizes a network.
STAGES = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Forgetting:
    """How alike the maps remain while a network forgets, from its first layer to its last."""

    #: The last module that each stage randomizes, as in ``network.named_modules()``.
    modules: tuple[str, ...]
    #: float64 [B, K], rank correlation with the map of the network as it was, of the relevance's
    #: size.
    similarity: Tensor


def emprt(
    explain: Explain,
    network: nn.Module,
    x: Tensor,
    *,
    generator: torch.Generator,
    draws: int = DRAWS,
    bins: int = BINS,
) -> Tensor:
    """Return the relative rise of the map's complexity in networks without knowledge, [B].

    eMPRT as in Hedström et al. 2024: (c' - c) / c with the histogram entropy c of the map and c'
    that of a fully randomized network, here the mean over ``draws`` of them. Higher is better, from
    -1 without an upper limit: above 0, what the network learned made the map simpler; 0 is a map
    that does not depend on it, such as a control. Networks of which the map is the same everywhere,
    as where a CAM is cut at zero, say nothing and are left out; NaN if none is left, or if the map
    itself is the same everywhere. It takes ``draws`` + 1 explanations.

    Parameters
    ----------
    explain
        Any method; it may not keep anything of one network for the next.
    network
        In evaluation mode; left as it is, down to its last weight.
    x
        float [B, C, *S].
    generator
        Draws the weights.
    draws
        Randomized networks, at least 1.
    bins
        Of the histogram.

    Raises
    ------
    MeasureError
        If a map does not hold one entry for each of the input or is not finite, the network has no
        weights, or nothing is to be drawn.
    ExplanationError
        As the method.
    """
    _require_positive(draws=draws)
    before = _complexity(_mapped(explain, network, x), bins)
    rises = []
    for _ in range(draws):
        stranger = randomized(network, generator=generator)
        rises.append((_complexity(_mapped(explain, stranger, x), bins) - before) / before)
    return torch.stack(rises).nanmean(dim=0)


def smprt(
    explain: Explain,
    network: nn.Module,
    x: Tensor,
    *,
    generator: torch.Generator,
    samples: int = SAMPLES,
    stages: int = STAGES,
) -> Tensor:
    """Return how alike the maps remain on average while the network forgets, [B].

    sMPRT as in Hedström et al. 2024: each map is the mean over noisy copies of the image, the
    layers are randomized one after the other from the first on (Binder et al. 2023 show that the
    other way round most of the signal survives), and the rank correlation of the maps' size with
    that of the network as it was is averaged over the stages. From -1 to 1, lower is better; 1 is a
    map that does not depend on the weights, such as a control. It takes ``samples`` x (``stages``
    + 1) explanations; ``forgetting`` returns the curve.

    Parameters
    ----------
    explain, network, x
        As of ``emprt``.
    generator
        Draws noise and weights.
    samples
        Noisy copies; the same ones at all stages and for all entries.
    stages
        The modules that have weights are divided into so many, at least 1; or into as many as there
        are modules.

    Raises
    ------
    MeasureError, ExplanationError
        As ``emprt``.
    """
    curve = forgetting(
        explain, network, x, generator=generator, samples=samples, stages=stages
    ).similarity
    return curve.mean(dim=1)


def forgetting(
    explain: Explain,
    network: nn.Module,
    x: Tensor,
    *,
    generator: torch.Generator,
    samples: int = SAMPLES,
    stages: int = STAGES,
) -> Forgetting:
    """Return the curve behind ``smprt``; parameters and errors as there."""
    _require_positive(samples=samples, stages=stages)
    names = _learned(_bare(network))
    stages = min(stages, len(names))
    ends = [-(-len(names) * stage // stages) for stage in range(1, stages + 1)]
    copies = [noisy(x, SMOOTHING_NOISE, generator) for _ in range(samples)]
    before = _smoothed(explain, network, copies)
    state = generator.get_state()
    similarity = []
    for end in ends:
        # Each stage draws the same weights again and keeps those of the stages before.
        generator.set_state(state)
        stranger = randomized(network, generator=generator, modules=names[:end])
        similarity.append(rank_agreement(before, _smoothed(explain, stranger, copies)))
    modules = tuple(names[end - 1] for end in ends)
    return Forgetting(modules=modules, similarity=torch.stack(similarity, dim=1))


def randomized(
    network: nn.Module, *, generator: torch.Generator, modules: Collection[str] | None = None
) -> nn.Module:
    """Return a copy of the network that has forgotten what it learned; the original stays.

    Every weight is drawn from a normal distribution with the root mean square of its tensor. That
    keeps the scale of the activations about that of the trained network, however deep it is, where
    the usual initial weights do not fit the statistics in its normalizations; and it loses the
    signs, which a shuffle would keep. Buffers stay, and so does a tensor of zeros. Weights that
    were one tensor remain one.

    Parameters
    ----------
    modules
        Names as in ``network.named_modules()`` whose own weights are drawn; None: all.

    Raises
    ------
    MeasureError
        If no such module has weights.
    """
    bare = _bare(network)
    names = [name for name in _learned(bare) if modules is None or name in modules]
    if not names:
        raise MeasureError(f"none of {modules} is a module with weights")
    with gradients_off():
        stranger = _independent(bare)
        parts = dict(stranger.named_modules())
        drawn: dict[tuple[int, torch.Size], Tensor] = {}
        for name in names:
            _redraw(parts[name], generator, drawn)
    return stranger


def _require_positive(**counts: int) -> None:
    for name, count in counts.items():
        if count < 1:
            raise MeasureError(f"{count} {name}: expected at least 1")


def _bare(network: nn.Module) -> nn.Module:
    """Return what was compiled: a compiled network runs its graph, whatever weights a copy has."""
    original = getattr(network, "_orig_mod", network)
    return original if isinstance(original, nn.Module) else network


def _learned(network: nn.Module) -> list[str]:
    """Return the names of the modules that have weights of their own, in the order of the tree."""
    names = [
        name
        for name, module in network.named_modules()
        if any(weight.is_floating_point() and weight.numel() for _, weight in _weights(module))
    ]
    if not names:
        raise MeasureError("the network has no weights: there is nothing to randomize")
    return names


def _weights(module: nn.Module) -> list[tuple[str, Tensor]]:
    return list(module.named_parameters(recurse=False, remove_duplicate=False))


def _independent(network: nn.Module) -> nn.Module:
    """Return a copy whose weights may be replaced; TorchScript is copied with its weights."""
    if isinstance(network, torch.jit.ScriptModule):
        return copy.deepcopy(network)
    stranger = private_copy(network)
    for module in list(stranger.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, torch.jit.ScriptModule):
                setattr(module, name, copy.deepcopy(child))
    return stranger


def _redraw(
    module: nn.Module, generator: torch.Generator, drawn: dict[tuple[int, torch.Size], Tensor]
) -> None:
    for name, weight in _weights(module):
        if not weight.is_floating_point() or not weight.numel():
            continue
        key = (weight.data_ptr(), weight.shape)
        if key not in drawn:
            size = weight.square().mean().sqrt()
            noise = torch.randn(weight.shape, generator=generator, device=generator.device)
            drawn[key] = noise.to(weight) * size
        if isinstance(module, torch.jit.ScriptModule):
            weight.copy_(drawn[key])
        else:
            module.register_parameter(name, nn.Parameter(drawn[key], requires_grad=False))
    if isinstance(module, nn.RNNBase):
        # It keeps a second list of its weights, which a copy shares with the original.
        module._flat_weights = [getattr(module, name) for name in module._flat_weights_names]  # noqa: SLF001


def _mapped(explain: Explain, network: nn.Module, x: Tensor) -> Tensor:
    values = explain(network, x)
    require_on_grid(values, x)
    return values


def _complexity(values: Tensor, bins: int) -> Tensor:
    """Return the histogram entropy, [B]; NaN for a map that is the same everywhere."""
    entropy = histogram_entropy(values, bins=bins)
    return torch.where(entropy > 0, entropy, torch.nan)


def _smoothed(explain: Explain, network: nn.Module, copies: list[Tensor]) -> Tensor:
    """Return the size of the mean relevance over the copies, [B, 1, *S]."""
    total = sum(_mapped(explain, network, each).sum(dim=1, keepdim=True) for each in copies)
    return torch.as_tensor(total).abs()
