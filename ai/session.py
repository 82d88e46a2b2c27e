"""One forward pass of one image, and everything that can be read from it.

The prediction, every class activation map and the features that tell an image from those the
network was trained on share the pass, so that an explanation costs little beside the prediction.
"""

import copy
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace

from torch import Tensor, nn

from ai.capture import gradients_off
from ai.errors import UnsuitableLayerError
from ai.explainers.admission import DEFAULTS, admit, admit_input, require_transparent
from ai.explainers.cam import (
    CAM,
    ClassActivationMap,
    EigenCAM,
    GradCAM,
    GradCAMPlusPlus,
    HiResCAM,
    LayerCAM,
    XGradCAM,
    attributed,
    report_done,
    require_uncancelled,
)
from ai.explainers.cam_pass import Plan, Watched
from ai.explainers.layers import deepest_layer
from ai.explainers.layout import layout_of
from ai.model import Attribution, Settings, Target
from dicom_io.analysis import Cost

#: Every map that a session can be asked for, with its defaults.
FAMILY: tuple[ClassActivationMap, ...] = (
    CAM(),
    GradCAM(),
    GradCAMPlusPlus(),
    HiResCAM(),
    LayerCAM(),
    XGradCAM(),
    EigenCAM(),
)


class ExplainSession:
    """A network, an image, and the forward pass that prediction and explanations share.

    Everything that depends on network and shape alone (the private copy, the checks, the choice of
    layers) is done once; ``on`` begins the session of another image with it. No gradient graph is
    recorded before the earliest layer. The graph lives as long as the session does.

    Parameters
    ----------
    network
        In evaluation mode; left as it is, and usable by others meanwhile. Later changes of its
        weights in place are seen, changes of its modules are not.
    x
        float [B, C, *S], or a bag of instances [B, N, C, *S].
    variants
        The maps that will be asked for: where their layers lie decides what the pass records.
    layers
        Layers for all of them instead of their own choice, as in ``network.named_modules()``. Where
        all are named, here or by the variants, none are searched.
    own_features
        Whether the features shall be those of the network's own deepest layer even then, so that
        they compare with those of other sessions: that layer is searched.

    Raises
    ------
    ExplanationError
        TrainingModeError, InputTensorError, OpaqueNetworkError, UnknownLayerError,
        UndifferentiableError; UnsuitableLayerError if the network has no feature map at all. A
        variant that is not defined on this network is refused when it is asked for.
    """

    @gradients_off()
    def __init__(
        self,
        network: nn.Module,
        x: Tensor,
        *,
        variants: Sequence[ClassActivationMap] = FAMILY,
        layers: Sequence[str] = (),
        own_features: bool = False,
    ) -> None:
        require_transparent(network, "a session")
        frozen, plain = admit(network, x)
        self._layers = tuple(layers)
        named = bool(layers) or (bool(variants) and all(each.layers for each in variants))
        self._layout = None if named and not own_features else layout_of(frozen, plain)
        allowed = tuple(self._allowed(variants))
        # If none is, each says so when it is asked.
        self._variants = allowed or tuple(variants)
        plan = Plan(
            layers=tuple(self._layers_of(each) for each in allowed),
            reruns=dict(self._layout.reruns) if self._layout else {},
        )
        self._recorded = plan.all_layers
        self._deepest = deepest_layer(self._layout) if self._layout else self._recorded[-1]
        self._watched = Watched(frozen, plain, plan, features=self._deepest)
        self._pass = self._watched.run(plain)

    @gradients_off()
    def on(self, x: Tensor) -> "ExplainSession":
        """Return the session of another image of the same shape; the batch may differ.

        Raises
        ------
        ExplanationError
            InputTensorError, UndifferentiableError.
        """
        session = copy.copy(self)
        session._pass = self._watched.run(admit_input(x))  # noqa: SLF001 - it is of this class
        return session

    @property
    def output(self) -> Tensor:
        """The network's output, detached; of a tuple the first: the prediction."""
        return self._pass.output_tensor

    @property
    def features(self) -> Tensor:
        """The mean over space of the deepest feature map, float32 [B, K].

        Of a classifier with global average pooling that is what its last layer reads. Unless all
        layers were named, and own features not asked for, the deepest is found by the network and
        the shape alone, so that features of different sessions compare; else it is the last named.

        Raises
        ------
        UnsuitableLayerError
            If that layer returned no map in this pass.
        """
        if self._pass.features is None:
            raise UnsuitableLayerError(f"layer {self._deepest!r} returned no feature map")
        return self._pass.features

    @gradients_off()
    def cams(
        self,
        target: Target,
        variants: Sequence[ClassActivationMap] | None = None,
        settings: Settings = DEFAULTS,
    ) -> tuple[Attribution, ...]:
        """Return the maps of a target, one for each variant, from one backward pass.

        The pass ends at the earliest layer that the variants read. Values are those of
        ``ai.explainers.cam.explain_all``. The cost counts no forward pass: it was the prediction's.

        Parameters
        ----------
        target
            From the network's output to one number per entry of the batch.
        variants
            The maps; None: those that the session was opened for, as far as the network has them.
        settings
            Its budget is asked and told.

        Raises
        ------
        ExplanationError
            TargetError; UnsuitableLayerError if a variant is not defined on this network, or its
            layer is not among those that the session recorded; ExplanationCancelledError.
        """
        require_uncancelled(settings)
        variants = self._variants if variants is None else variants
        if not variants:
            return ()
        layers = [self._recorded_layers_of(each) for each in variants]
        wanted = tuple(dict.fromkeys(name for names in layers for name in names))
        f_x, evidence = self._pass.towards(target, wanted, keep_graph=True)
        cost = Cost(forwards=0.0, backwards=1.0 / len(variants))
        found = tuple(
            attributed(
                variant,
                self._pass,
                {layer: evidence[layer] for layer in names},
                f_x=f_x,
                cost=replace(cost, peak_bytes=self._bytes_from(names[0])),
            )
            for variant, names in zip(variants, layers, strict=True)
        )
        report_done(settings)
        return found

    def _allowed(self, variants: Sequence[ClassActivationMap]) -> Iterator[ClassActivationMap]:
        for each in variants:
            # It is refused when it is asked for, and does not cost the others their session.
            with suppress(UnsuitableLayerError):
                self._layers_of(each)
                yield each

    def _recorded_layers_of(self, variant: ClassActivationMap) -> tuple[str, ...]:
        layers = self._layers_of(variant)
        if not layers or not set(layers) <= set(self._recorded):
            raise UnsuitableLayerError(
                f"{variant.name} reads {', '.join(layers) or 'a layer of its own choice'}, and "
                f"recorded are {', '.join(self._recorded) or 'none'}: open the session for it"
            )
        return layers

    def _layers_of(self, variant: ClassActivationMap) -> tuple[str, ...]:
        named = self._layers or tuple(variant.layers)
        if named or self._layout is None:
            return named
        return variant.choose_layers(self._layout)

    def _bytes_from(self, layer: str) -> int:
        kept = self._layout.bytes_from(layer) if self._layout else 0
        return kept * self._pass.x.shape[0]
