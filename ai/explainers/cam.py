"""The class activation maps: where the feature maps of a layer speak for the target.

All variants read the same two tensors, a layer's activation A and the target's gradient G at it,
both [B, K, *s], and differ by one formula each. ``explain_all`` computes any number of them, at
any number of layers, from one forward pass and one backward pass that ends at the earliest layer.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from ai.capture import gradients_off
from ai.errors import ExplanationCancelledError, UnsuitableLayerError
from ai.explainers.admission import DEFAULTS, admit, require_forwards, require_transparent
from ai.explainers.cam_pass import Evidence, Pass, Watched, fused, planned
from ai.explainers.heads import is_read_linearly
from ai.explainers.layers import coarsest_layer, fine_layers
from ai.explainers.layout import Layout, layout_of
from ai.model import Attribution, Needs, Settings, Target
from dicom_io.analysis import Cost

#: What is said of a map of zeros: cut at zero, it hides that all evidence is against the target.
NOTHING_FOR_IT = "nothing at this layer speaks for the target: the map is zero"
#: A channel whose values cancel to less than this share of their size has no sum to divide by.
_CANCELLED = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassActivationMap(ABC):
    """One formula over A and G; everything else about a CAM is the same for all."""

    needs: ClassVar[Needs] = Needs.LAYERS
    passes: ClassVar[str] = "1 forward, at most 1 backward"
    #: Name of the method, as routes write it.
    name: str = field(default="", init=False)
    #: Whether evidence against the target is kept; as the papers have it, it is cut at zero.
    signed: bool = False
    #: Layers to explain at, as in ``network.named_modules()``; empty: chosen by stride.
    layers: tuple[str, ...] = ()
    #: Where to look in a network without strides: 0 its first layer, 1 its last. Later is cheaper.
    depth: float = 0.5

    @abstractmethod
    def combine(self, activation: Tensor, gradient: Tensor) -> Tensor:
        """Return the signed map [B, *s] of A and G, both [B, K, *s]."""

    @abstractmethod
    def choose_layers(self, layout: Layout) -> tuple[str, ...]:
        """Return the layers to explain at where nobody names them, earliest first."""

    def require_suitable(self, layer: str, running: Pass) -> None:  # noqa: B027
        """Refuse a layer that the method is not defined on; most are on any feature map."""

    def warnings(self, running: Pass) -> tuple[str, ...]:  # noqa: ARG002
        """Return what a reader of the map must know."""
        return ()

    def estimate_cost(self, network: nn.Module, x: Tensor) -> Cost:
        """Return what ``explain`` will take at the layers it would choose.

        The backward pass is counted whole; it is shorter the later the layer. The bytes are those
        of the maps that the gradient graph keeps, for the whole batch.
        """
        require_transparent(network, self.name)
        layout = layout_of(network, x)
        layers = tuple(self.layers) or self.choose_layers(layout)
        kept = layout.bytes_from(layers[0]) * x.shape[0]
        return Cost(forwards=1.0 + layout.forwards, backwards=1.0, peak_bytes=kept)

    def explain(
        self, network: nn.Module, x: Tensor, target: Target, settings: Settings = DEFAULTS
    ) -> Attribution:
        """Return the map [B, 1, *S] of ``target``; raises as ``explain_all``."""
        return explain_all(network, x, target, (self,), settings)[self.name]


@dataclass(frozen=True, slots=True, kw_only=True)
class CAM(ClassActivationMap):
    """The map that the network's last linear layer reads, by its weights (Zhou et al. 2016).

    Defined where a global average pooling and one linear layer follow the map, in either order: the
    mean of the signed map over space is the logit less its bias. A segmenter that ends in a 1 x 1
    convolution reads its last map at each place; there the mean over the segment is its mass less
    the bias. That the network ends so is verified by its values, not believed by its names.
    """

    name: str = field(default="cam", init=False)
    #: The paper cuts nothing off.
    signed: bool = True

    def combine(self, activation: Tensor, gradient: Tensor) -> Tensor:
        """Return sum over k of w_k A_k where the target is read; G is w over the places there."""
        read = (gradient != 0).any(dim=1)
        places = read.flatten(1).sum(dim=1).view(-1, *[1] * (read.ndim - 1))
        return (gradient * activation).sum(dim=1) * places

    def choose_layers(self, layout: Layout) -> tuple[str, ...]:
        """Return the map that the last linear layer reads.

        Raises
        ------
        UnsuitableLayerError
            If no linear layer gives the output from a map.
        """
        if layout.read_linearly is None:
            raise UnsuitableLayerError(_no_linear_head("the network"))
        return (layout.read_linearly,)

    def require_suitable(self, layer: str, running: Pass) -> None:
        """Refuse a layer whose map, pooled, is not what a linear layer makes the output of."""
        maps = running.reader.apart(running.activation(layer))
        if not is_read_linearly(running.network, maps, running.output_tensor):
            raise UnsuitableLayerError(_no_linear_head(f"behind layer {layer!r} the network"))

    def warnings(self, running: Pass) -> tuple[str, ...]:
        """Say of a segment's map that it is its logit."""
        outlined = running.output_tensor.ndim > 2
        return ("the map is the segment's own logit: where it was drawn, not why",) * outlined


@dataclass(frozen=True, slots=True, kw_only=True)
class GradCAM(ClassActivationMap):
    """Channels weighed by their mean gradient (Selvaraju et al. 2017)."""

    name: str = field(default="grad_cam", init=False)

    def combine(self, activation: Tensor, gradient: Tensor) -> Tensor:
        """Return sum over k of mean(G_k) A_k."""
        return _weighted(activation, gradient.flatten(2).mean(dim=2))

    def choose_layers(self, layout: Layout) -> tuple[str, ...]:
        """Return the layer of the coarsest map, as the paper has it."""
        return coarsest_layer(layout, depth=self.depth)


@dataclass(frozen=True, slots=True, kw_only=True)
class GradCAMPlusPlus(ClassActivationMap):
    """Channels weighed by their positive gradients, each by its share (Chattopadhay et al. 2018).

    The share is written as alpha = 1 / (2 + S G), S the sum of the channel's positive activation.
    That is the paper's G^2 / (2 G^2 + S G^3), divided by G^2: no small number guards the
    denominator, which would distort the map of a network with small gradients.
    """

    name: str = field(default="grad_cam_pp", init=False)

    def combine(self, activation: Tensor, gradient: Tensor) -> Tensor:
        """Return sum over k of (sum of alpha_k relu(G_k)) A_k."""
        positive = gradient.flatten(2).clamp(min=0)
        total = activation.flatten(2).clamp(min=0).sum(dim=2, keepdim=True)
        return _weighted(activation, (positive / (2 + total * positive)).sum(dim=2))

    def choose_layers(self, layout: Layout) -> tuple[str, ...]:
        """Return the layer of the coarsest map, as the paper has it."""
        return coarsest_layer(layout, depth=self.depth)


@dataclass(frozen=True, slots=True, kw_only=True)
class HiResCAM(ClassActivationMap):
    """Each place weighed by its own gradient (Draelos and Carin 2020).

    Where only linear operations follow the layer, the signed map sums to the target less its bias.
    """

    name: str = field(default="hires_cam", init=False)

    def combine(self, activation: Tensor, gradient: Tensor) -> Tensor:
        """Return sum over k of G_k A_k."""
        return (gradient * activation).sum(dim=1)

    def choose_layers(self, layout: Layout) -> tuple[str, ...]:
        """Return the layers at stride 8 and 16."""
        return fine_layers(layout, depth=self.depth)


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerCAM(ClassActivationMap):
    """Each place weighed by its own positive gradient (Jiang et al. 2021).

    The paper writes relu(G) A and means maps that a ReLU left without negative values. Elsewhere,
    as among the tokens of a transformer, not the sign of G but that of G A tells what speaks for
    the target. So the positive products are summed: the same wherever A is not negative.
    """

    name: str = field(default="layer_cam", init=False)

    def combine(self, activation: Tensor, gradient: Tensor) -> Tensor:
        """Return sum over k of relu(G_k A_k); never negative."""
        return (gradient * activation).clamp(min=0).sum(dim=1)

    def choose_layers(self, layout: Layout) -> tuple[str, ...]:
        """Return the layers at stride 8 and 16."""
        return fine_layers(layout, depth=self.depth)


@dataclass(frozen=True, slots=True, kw_only=True)
class XGradCAM(ClassActivationMap):
    """Channels weighed by their gradient at the places where they are active (Fu et al. 2020).

    A channel that is silent, or whose values cancel, has no weight: the paper divides by its sum.
    """

    name: str = field(default="xgrad_cam", init=False)

    def combine(self, activation: Tensor, gradient: Tensor) -> Tensor:
        """Return sum over k of (sum of A_k G_k / sum of A_k) A_k."""
        cells = activation.flatten(2)
        total, size = cells.sum(dim=2), cells.abs().sum(dim=2)
        speaks = total.abs() > _CANCELLED * size
        weights = (cells * gradient.flatten(2)).sum(dim=2) / torch.where(speaks, total, 1)
        return _weighted(activation, torch.where(speaks, weights, 0))

    def choose_layers(self, layout: Layout) -> tuple[str, ...]:
        """Return the layer of the coarsest map, as the paper has it."""
        return coarsest_layer(layout, depth=self.depth)


@dataclass(frozen=True, slots=True, kw_only=True)
class EigenCAM(ClassActivationMap):
    """The activations along their first principal direction (Muhammad and Yeasin 2020).

    It shows what the layer sees, for whatever target: a control more than an explanation. The
    direction, which has no sign of its own, is turned so that the map's sum is not negative.
    """

    name: str = field(default="eigen_cam", init=False)

    def combine(self, activation: Tensor, gradient: Tensor) -> Tensor:  # noqa: ARG002
        """Return the projection of A on the first eigenvector of A A^T; G is not used."""
        direction = _principal(activation.flatten(2).double())
        against = (direction * activation.flatten(2).sum(dim=2)).sum(dim=1, keepdim=True) < 0
        return _weighted(activation, torch.where(against, -direction, direction))

    def choose_layers(self, layout: Layout) -> tuple[str, ...]:
        """Return the layer of the coarsest map, as the paper has it."""
        return coarsest_layer(layout, depth=self.depth)

    def warnings(self, running: Pass) -> tuple[str, ...]:  # noqa: ARG002
        """Say that the target plays no part."""
        return ("the map does not depend on the target",)


@gradients_off()
def explain_all(
    network: nn.Module,
    x: Tensor,
    target: Target,
    variants: Sequence[ClassActivationMap],
    settings: Settings = DEFAULTS,
) -> dict[str, Attribution]:
    """Return the attribution of each variant, by its name, from one forward and one backward pass.

    Parameters
    ----------
    network
        In evaluation mode; untouched, and usable by other threads meanwhile.
    x
        float [B, C, *S].
    target
        From the network's output to one number per entry of the batch.
    variants
        The formulas to apply.
    settings
        ``layers`` replaces the choice by stride; finding the layers costs a few percent of a
        forward pass, so name them (see ``layout_of``) where many inputs are explained. A variant's
        own ``layers`` come second.

    Returns
    -------
    dict
        Values [B, 1, *S] on the input's grid by linear interpolation, in the unit of A times G, not
        normalized, not negative unless the variant is ``signed``. Several layers are fused as
        ``cam_pass.fused`` says. The shared cost is divided evenly, so that the costs add up.

    Raises
    ------
    ExplanationError
        TrainingModeError, InputTensorError, OpaqueNetworkError, UnknownLayerError,
        UnsuitableLayerError, TargetError, BudgetError or ExplanationCancelledError: see there.
    """
    method = variants[0].name if len(variants) == 1 else "the CAM family"
    require_transparent(network, method)
    require_forwards(settings, 1, method)
    frozen, plain = admit(network, x)
    plan = planned(frozen, plain, variants, settings)
    require_uncancelled(settings)
    running = Watched(frozen, plain, plan).run(plain)
    f_x, evidence = running.towards(target, plan.all_layers, keep_graph=False)
    report_done(settings)
    cost = Cost(
        forwards=(1.0 + plan.forwards) / len(variants),
        backwards=1.0 / len(variants),
        peak_bytes=plan.peak_bytes,
    )
    return {
        variant.name: attributed(
            variant, running, {layer: evidence[layer] for layer in layers}, f_x=f_x, cost=cost
        )
        for variant, layers in zip(variants, plan.layers, strict=True)
    }


def attributed(
    variant: ClassActivationMap,
    running: Pass,
    evidence: Mapping[str, Evidence],
    *,
    f_x: Tensor,
    cost: Cost,
) -> Attribution:
    """Return what a variant makes of the evidence at its layers, earliest first.

    Raises
    ------
    UnsuitableLayerError
        If the variant is not defined on one of the layers.
    """
    for layer in evidence:
        variant.require_suitable(layer, running)
    reader = running.reader
    maps = [
        reader.apart(variant.combine(each.activation, each.gradient)) for each in evidence.values()
    ]
    kept = maps if variant.signed else [each.clamp(min=0) for each in maps]
    speaks = any(bool((each != 0).any()) for each in kept)
    grid = fused(maps, extents=reader.extents, signed=variant.signed)
    return Attribution(
        values=reader.on_input(grid),
        f_x=f_x,
        f_baseline=None,
        residual=None,
        method=variant.name,
        layer=", ".join(evidence),
        baseline=None,
        seed=None,
        cost=cost,
        warnings=(*variant.warnings(running), *(() if speaks else (NOTHING_FOR_IT,))),
    )


def require_uncancelled(settings: Settings) -> None:
    """Refuse to begin what the caller has cancelled.

    Raises
    ------
    ExplanationCancelledError
        If so.
    """
    budget = settings.budget
    if budget and budget.cancelled and budget.cancelled():
        raise ExplanationCancelledError("cancelled before the forward pass")


def report_done(settings: Settings) -> None:
    """Tell the caller that the one pass is done."""
    if settings.budget and settings.budget.report:
        settings.budget.report(1, 1)


def _weighted(activation: Tensor, weights: Tensor) -> Tensor:
    """Return sum over k of w_k A_k, [B, *s], of weights [B, K]."""
    return torch.einsum("bk,bk...->b...", weights.to(activation.dtype), activation)


def _principal(cells: Tensor) -> Tensor:
    """Return the first left singular vector of [B, K, N], [B, K], from the smaller Gram matrix."""
    if cells.shape[1] <= cells.shape[2]:
        directions: Tensor = torch.linalg.eigh(cells @ cells.mT).eigenvectors
        return directions[:, :, -1]
    across = torch.linalg.eigh(cells.mT @ cells).eigenvectors[:, :, -1:]
    return functional.normalize((cells @ across)[:, :, 0], dim=1)


def _no_linear_head(what: str) -> str:
    return (
        f"cam is defined by a global average pooling and one linear layer, and {what} does not end "
        "so: no linear layer gives the output from a pooled map; use grad_cam, which weighs the "
        "channels of any layer, or layer_cam"
    )
