"""What captum, MONAI and shap answer to the same questions, each called as its documents say.

A peer works on a deep copy of the network, since some leave hooks or flags behind. What it raises
goes through: the caller shows it.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from captum import attr
from monai import visualize
from torch import Tensor, nn

from ai.explainers.axioms import completeness_residual, conservation_residual
from ai.explainers.baselines import blurred
from ai.targets import logits_of
from benchmarks.networks import Subject

#: Passes of every method that repeats them, ours and theirs.
REPEATS = 4
#: Cells along each axis of whatever covers pieces of the image.
CELLS = 2


class Answering(nn.Module):
    """A network whose output is the target's value, [B, 1]; counts its forward passes."""

    def __init__(self, subject: Subject) -> None:
        super().__init__()
        self.network = copy.deepcopy(subject.network)
        self._target = subject.target
        self.passes = 0

    def forward(self, x: Tensor) -> Tensor:
        self.passes += x.shape[0]
        return self._target(logits_of(self.network(x)), x)[:, None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A subject as a peer sees it."""

    network: Answering
    x: Tensor
    baseline: Tensor
    #: [2, C, *S]: two images without information, for methods that want a set of them.
    references: Tensor
    #: Layer of the last feature map, as in ``network.named_modules()``; empty: there is none.
    layer: str

    def at(self, x: Tensor) -> Tensor:
        """Return the target's value, [B]."""
        with torch.no_grad():
            return self.network(x)[:, 0]


Answer = Callable[[Question], Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """One method of another library."""

    library: str
    name: str
    #: Ours that it stands beside.
    rival: str
    answer: Answer
    #: The residual of its axiom, [1]; None for a method without.
    residual: Callable[[Question, Tensor], Tensor] | None = None
    #: Whether it asks exactly what ours asks, so that the maps must agree.
    same: bool = False
    #: Whether the baseline is zero instead of the blurred image.
    zero: bool = False


def question_of(subject: Subject, layer: str = "", *, zero: bool = False) -> Question:
    """Return the question to the peers; without a layer those that need one raise."""
    blur, wide = blurred(subject.x), blurred(subject.x, share=1 / 8)
    return Question(
        network=Answering(subject).eval(),
        x=subject.x.clone(),
        baseline=torch.zeros_like(blur) if zero else blur,
        references=torch.cat([blur, wide]),
        layer=layer,
    )


def _gain(question: Question, values: Tensor) -> Tensor:
    f_x, f_baseline = question.at(question.x), question.at(question.baseline)
    return completeness_residual(values, f_x, f_baseline)


def _gain_over_set(question: Question, values: Tensor) -> Tensor:
    f_set = question.at(question.references).mean(dim=0, keepdim=True)
    return completeness_residual(values, question.at(question.x), f_set)


def _conservation(question: Question, values: Tensor) -> Tensor:
    return conservation_residual(values, torch.zeros(1), question.at(question.x))


def _gain_of_pieces(question: Question, values: Tensor) -> Tensor:
    """Every voxel of a piece has the value of the whole piece."""
    pieces = _pieces(question.x)
    firsts = [values[pieces.expand_as(values) == piece][0] for piece in pieces.unique()]
    return _gain(question, torch.stack(firsts)[None])


def _pieces(x: Tensor) -> Tensor:
    """Return the number of the cell of each voxel, int64 [1, 1, *S]."""
    number = torch.zeros(x.shape[2:], dtype=torch.int64)
    for axis, extent in enumerate(x.shape[2:]):
        cell = torch.arange(extent) * min(CELLS, extent) // extent
        shape = [1] * number.ndim
        shape[axis] = extent
        number = number * CELLS + cell.view(shape)
    _, compact = number.unique(return_inverse=True)
    return compact.view(1, 1, *x.shape[2:]).to(x.device)


def _window(x: Tensor) -> tuple[int, ...]:
    return tuple(-(-extent // CELLS) for extent in x.shape[2:])


def _required_layer(question: Question) -> nn.Module:
    if not question.layer:
        raise LookupError("the network has no feature map")
    return question.network.get_submodule(f"network.{question.layer}")


# --- captum ---------------------------------------------------------------------------------------


def _captum_saliency(question: Question) -> Tensor:
    return attr.Saliency(question.network).attribute(question.x, target=0)


def _captum_input_x_gradient(question: Question) -> Tensor:
    return attr.InputXGradient(question.network).attribute(question.x, target=0)


def _captum_integrated_gradients(question: Question) -> Tensor:
    return attr.IntegratedGradients(question.network).attribute(
        question.x, question.baseline, target=0, n_steps=REPEATS, internal_batch_size=1
    )


def _captum_smoothgrad(question: Question) -> Tensor:
    deviation = 0.15 * float(question.x.max() - question.x.min())
    tunnel = attr.NoiseTunnel(attr.Saliency(question.network))
    return tunnel.attribute(
        question.x,
        nt_type="smoothgrad",
        nt_samples=REPEATS,
        nt_samples_batch_size=1,
        stdevs=deviation,
        target=0,
        abs=False,
    )


def _captum_gradient_shap(question: Question) -> Tensor:
    return attr.GradientShap(question.network).attribute(
        question.x, question.references, n_samples=REPEATS, target=0
    )


def _captum_deep_lift(question: Question) -> Tensor:
    return attr.DeepLift(question.network).attribute(question.x, question.baseline, target=0)


def _captum_deep_lift_shap(question: Question) -> Tensor:
    return attr.DeepLiftShap(question.network).attribute(question.x, question.references, target=0)


def _captum_lrp(question: Question) -> Tensor:
    return attr.LRP(question.network).attribute(question.x, target=0)


def _captum_grad_cam(question: Question) -> Tensor:
    method = attr.LayerGradCam(question.network, _required_layer(question))
    values = method.attribute(question.x, target=0, relu_attributions=True)
    extents = question.x.shape[2:]
    mode = "bilinear" if len(extents) == 2 else "trilinear"
    return nn.functional.interpolate(values.detach(), extents, mode=mode)


def _captum_occlusion(question: Question) -> Tensor:
    window = (question.x.shape[1], *_window(question.x))
    return attr.Occlusion(question.network).attribute(
        question.x, window, strides=window, baselines=question.baseline, target=0
    )


def _captum_kernel_shap(question: Question) -> Tensor:
    return attr.KernelShap(question.network).attribute(
        question.x,
        question.baseline,
        target=0,
        feature_mask=_pieces(question.x),
        n_samples=2 * REPEATS,
    )


def _captum_lime(question: Question) -> Tensor:
    return attr.Lime(question.network).attribute(
        question.x,
        question.baseline,
        target=0,
        feature_mask=_pieces(question.x),
        n_samples=2 * REPEATS,
    )


# --- MONAI ----------------------------------------------------------------------------------------


def _monai_vanilla_grad(question: Question) -> Tensor:
    return visualize.VanillaGrad(question.network)(question.x.clone(), index=0).abs()


def _monai_smoothgrad(question: Question) -> Tensor:
    method = visualize.SmoothGrad(
        question.network, n_samples=REPEATS, magnitude=False, verbose=False
    )
    return method(question.x, index=0)


def _monai_cam(method: type) -> Answer:
    def answer(question: Question) -> Tensor:
        _required_layer(question)
        layer = f"network.{question.layer}"
        cam = method(question.network, layer, postprocessing=lambda raw: raw)
        return cam(question.x, class_idx=0)

    return answer


def _monai_occlusion(question: Question) -> Tensor:
    method = visualize.OcclusionSensitivity(
        question.network,
        mask_size=_window(question.x),
        n_batch=1,
        verbose=False,
        overlap=0.0,
        activate=False,
    )
    drops, _ = method(question.x)
    return question.at(question.x) - drops


# --- shap -----------------------------------------------------------------------------------------


def _shap(kind: str, **options: int) -> Answer:
    def answer(question: Question) -> Tensor:
        import shap  # installed for this benchmark alone; takes seconds

        explainer = getattr(shap, kind)(question.network, question.references)
        values = explainer.shap_values(question.x, **options)
        return torch.as_tensor(values).squeeze(-1).to(question.x)

    return answer


#: Every peer, beside the method of ours that it is compared with.
PEERS: tuple[Peer, ...] = (
    Peer(library="captum", name="Saliency", rival="saliency", answer=_captum_saliency, same=True),
    Peer(
        library="MONAI", name="VanillaGrad", rival="saliency", answer=_monai_vanilla_grad, same=True
    ),
    Peer(
        library="captum",
        name="InputXGradient",
        rival="input_x_gradient",
        answer=_captum_input_x_gradient,
        same=True,
    ),
    Peer(
        library="captum",
        name="IntegratedGradients",
        rival="integrated_gradients",
        answer=_captum_integrated_gradients,
        residual=_gain,
    ),
    Peer(library="captum", name="NoiseTunnel", rival="smoothgrad", answer=_captum_smoothgrad),
    Peer(library="MONAI", name="SmoothGrad", rival="smoothgrad", answer=_monai_smoothgrad),
    Peer(
        library="captum",
        name="GradientShap",
        rival="expected_gradients",
        answer=_captum_gradient_shap,
        residual=_gain_over_set,
    ),
    Peer(
        library="shap",
        name="GradientExplainer",
        rival="expected_gradients",
        answer=_shap("GradientExplainer", nsamples=REPEATS),
        residual=_gain_over_set,
    ),
    Peer(
        library="captum",
        name="DeepLift",
        rival="deeplift",
        answer=_captum_deep_lift,
        residual=_gain,
        same=True,
    ),
    Peer(
        library="captum",
        name="DeepLift, zero",
        rival="deeplift",
        answer=_captum_deep_lift,
        residual=_gain,
        same=True,
        zero=True,
    ),
    Peer(
        library="captum",
        name="DeepLiftShap",
        rival="deeplift_shap",
        answer=_captum_deep_lift_shap,
        residual=_gain_over_set,
        same=True,
    ),
    Peer(
        library="shap",
        name="DeepExplainer",
        rival="deeplift_shap",
        answer=_shap("DeepExplainer"),
        residual=_gain_over_set,
        same=True,
    ),
    Peer(library="captum", name="LRP", rival="lrp", answer=_captum_lrp, residual=_conservation),
    Peer(
        library="captum", name="LayerGradCam", rival="grad_cam", answer=_captum_grad_cam, same=True
    ),
    Peer(
        library="MONAI",
        name="GradCAM",
        rival="grad_cam",
        answer=_monai_cam(visualize.GradCAM),
        same=True,
    ),
    Peer(
        library="MONAI",
        name="GradCAMpp",
        rival="grad_cam_pp",
        answer=_monai_cam(visualize.GradCAMpp),
    ),
    Peer(library="captum", name="Occlusion", rival="occlusion", answer=_captum_occlusion),
    Peer(library="MONAI", name="OcclusionSensitivity", rival="occlusion", answer=_monai_occlusion),
    Peer(
        library="captum",
        name="KernelShap",
        rival="kernel_shap",
        answer=_captum_kernel_shap,
        residual=_gain_of_pieces,
    ),
    Peer(library="captum", name="Lime", rival="lime", answer=_captum_lime),
)
