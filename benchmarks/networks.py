"""The matrix: fifteen networks of MONAI that every explanation is held against.

Weights are random and seeded; two things of a trained network are made up for by looking at a few
images first (as Mishkin and Matas 2015 do):

- Batch normalization has their statistics. With its initial ones the activations of a deep network
  grow without bounds, with those of too few images they still do on the next.
- The last layer of a classifier is shifted and scaled so that its logits over these images have
  mean 3 and deviation 2. Without that the logits are nearly the same for all images and what the
  image adds drowns in the constants; with a mean of 0 the one that is explained may be next to
  nothing. A residual relative to either would mean little.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from monai.networks import nets
from torch import Tensor, nn

from ai.model import Target
from ai.targets import ClassLogit, SegmentMass, logits_of

#: The output channel that is explained.
CHANNEL = 1
_BATCH_NORMALIZATIONS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
#: Images that a network has seen, of two and of three axes.
_SEEN = {2: 16, 3: 8}
#: Mean and deviation of a classifier's logits over these images.
_MEAN, _SPREAD = 3.0, 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """One network of the matrix with an image and a question about it."""

    name: str
    network: nn.Module
    #: float [1, C, *S]; a bag is [1, instances, C, *S].
    x: Tensor
    target: Target


@dataclass(frozen=True, slots=True, kw_only=True)
class Specimen:
    """One network of the matrix, small for a test and in full for a benchmark."""

    name: str
    #: ``classifier``, ``segmenter`` or ``bag`` (multiple instances, [B, N, C, *S]).
    kind: str
    #: Makes the network for inputs of some spatial extents.
    make: Callable[[tuple[int, ...]], nn.Module]
    #: Spatial extents (of a bag: instances, channels, extents) in tests.
    small: tuple[int, ...]
    #: The same in benchmarks.
    usual: tuple[int, ...]
    #: The same as in practice.
    full: tuple[int, ...]

    def network(self, extents: tuple[int, ...], *, seed: int = 0) -> nn.Module:
        """Return the network in evaluation mode, after it has seen a few images."""
        torch.manual_seed(seed)
        network = self.make(extents).eval()
        normalizations = [
            each for each in network.modules() if isinstance(each, _BATCH_NORMALIZATIONS)
        ]
        if not normalizations and self.kind == "segmenter":
            return network
        images = self.image(extents, batch=self._seen(extents), seed=seed + 1)
        with torch.no_grad():
            if normalizations:
                _calibrate(normalizations, network, images)
            if self.kind != "segmenter":
                _spread(network, images)
        return network

    def image(self, extents: tuple[int, ...], *, batch: int = 1, seed: int = 0) -> Tensor:
        """Return float32 images: a smooth anatomy with some noise, mean 0, deviation 1."""
        generator = torch.Generator().manual_seed(seed)
        shape = extents if self.kind == "bag" else (1, *extents)
        spatial = shape[2:] if self.kind == "bag" else shape[1:]
        axes = len(spatial)
        rough = torch.randn((batch * _planes(shape, axes), 1, *(6,) * axes), generator=generator)
        mode = "trilinear" if axes == 3 else "bilinear"
        smooth = nn.functional.interpolate(rough, spatial, mode=mode, align_corners=True)
        x = smooth + 0.2 * torch.randn(smooth.shape, generator=generator)
        return ((x - x.mean()) / x.std()).reshape(batch, *shape)

    def subject(
        self,
        extents: tuple[int, ...],
        *,
        dtype: torch.dtype = torch.float32,
        device: str = "cpu",
    ) -> Subject:
        """Return the network with an image that it has not seen, and a target."""
        network = self.network(extents).to(device, dtype)
        x = self.image(extents).to(device, dtype)
        return Subject(name=self.name, network=network, x=x, target=self.target(network, x))

    def target(self, network: nn.Module, x: Tensor) -> Target:
        """Return what is explained: a class, or a segment where the network outlines it in ``x``.

        Where it outlines none, the voxels that come nearest to it.
        """
        if self.kind != "segmenter":
            return ClassLogit(CHANNEL)
        with torch.no_grad():
            logits = logits_of(network(x[:1]))[0]
        outlined = logits.argmax(dim=0) == CHANNEL
        if not bool(outlined.any()):
            lead = logits[CHANNEL] - logits.amax(dim=0)
            outlined = lead >= lead.quantile(0.95)
        return SegmentMass(CHANNEL, outlined)

    def _seen(self, extents: tuple[int, ...]) -> int:
        if self.kind == "bag":
            return _SEEN[len(extents) - 2] // 2
        return _SEEN[len(extents)]


def _calibrate(normalizations: list[nn.Module], network: nn.Module, images: Tensor) -> None:
    """Give batch normalizations the statistics of the images; nothing else is in training mode."""
    for each in normalizations:
        each.momentum = None  # the mean over all batches
        each.train()
    network(images)
    network.eval()


def _spread(network: nn.Module, images: Tensor) -> None:
    """Shift and scale the last linear layer: logits of ``_MEAN`` and ``_SPREAD``."""
    head = [each for each in network.modules() if isinstance(each, nn.Linear)][-1]
    logits = torch.cat([logits_of(network(image[None])) for image in images])
    scale = _SPREAD / logits.std(dim=0)
    head.weight *= scale[:, None]
    head.bias.copy_((head.bias - logits.mean(dim=0)) * scale + _MEAN)


def _planes(shape: tuple[int, ...], axes: int) -> int:
    count = 1
    for extent in shape[: len(shape) - axes]:
        count *= extent
    return count


def _resnet(make: Callable[..., nn.Module], axes: int, _extents: tuple[int, ...]) -> nn.Module:
    return make(spatial_dims=axes, n_input_channels=1, num_classes=3)


def _densenet(_extents: tuple[int, ...]) -> nn.Module:
    return nets.DenseNet121(spatial_dims=2, in_channels=1, out_channels=3)


def _efficientnet(_extents: tuple[int, ...]) -> nn.Module:
    return nets.EfficientNetBN("efficientnet-b0", pretrained=False, in_channels=1, num_classes=3)


def _seresnet(_extents: tuple[int, ...]) -> nn.Module:
    return nets.SEResNet50(spatial_dims=2, in_channels=1, num_classes=3)


def _vit(extents: tuple[int, ...]) -> nn.Module:
    return nets.ViT(
        in_channels=1,
        img_size=extents,
        patch_size=16,
        hidden_size=384,
        mlp_dim=1536,
        num_layers=12,
        num_heads=6,
        classification=True,
        num_classes=3,
        post_activation="",
        spatial_dims=len(extents),
    )


def _unet(_extents: tuple[int, ...]) -> nn.Module:
    return nets.UNet(
        spatial_dims=3,
        in_channels=1,
        out_channels=3,
        channels=(16, 32, 64, 128),
        strides=(2, 2, 2),
        num_res_units=2,
    )


def _segresnet(_extents: tuple[int, ...]) -> nn.Module:
    return nets.SegResNet(spatial_dims=3, in_channels=1, out_channels=3, init_filters=16)


def _dynunet(_extents: tuple[int, ...]) -> nn.Module:
    return nets.DynUNet(
        spatial_dims=3,
        in_channels=1,
        out_channels=3,
        kernel_size=[3, 3, 3, 3],
        strides=[1, 2, 2, 2],
        upsample_kernel_size=[2, 2, 2],
        filters=[16, 32, 64, 128],
    )


def _unetr(extents: tuple[int, ...]) -> nn.Module:
    return nets.UNETR(
        in_channels=1,
        out_channels=3,
        img_size=extents,
        feature_size=16,
        hidden_size=384,
        mlp_dim=1536,
        num_heads=6,
    )


def _swin_unetr(extents: tuple[int, ...]) -> nn.Module:
    return nets.SwinUNETR(in_channels=1, out_channels=3, feature_size=12, spatial_dims=len(extents))


def _attention_unet(_extents: tuple[int, ...]) -> nn.Module:
    return nets.AttentionUnet(
        spatial_dims=3, in_channels=1, out_channels=3, channels=(16, 32, 64), strides=(2, 2)
    )


def _mil(_extents: tuple[int, ...]) -> nn.Module:
    backbone = nets.resnet18(spatial_dims=2, n_input_channels=1, num_classes=3, feed_forward=False)
    return nets.MILModel(
        num_classes=3,
        mil_mode="att",
        pretrained=False,
        backbone=backbone,
        backbone_num_features=512,
    )


_CLASSIFIER = partial(Specimen, kind="classifier")
_SEGMENTER = partial(Specimen, kind="segmenter")
_PLANE = {"small": (64, 64), "usual": (224, 224), "full": (224, 224)}
_SOLID = {"small": (16, 16, 16), "usual": (48, 48, 48), "full": (96, 96, 96)}

#: By name, in the order of the tables.
MATRIX: dict[str, Specimen] = {
    each.name: each
    for each in (
        _CLASSIFIER(name="DenseNet121", make=_densenet, **_PLANE),
        _CLASSIFIER(name="ResNet18", make=partial(_resnet, nets.resnet18, 2), **_PLANE),
        _CLASSIFIER(name="ResNet50", make=partial(_resnet, nets.resnet50, 2), **_PLANE),
        _CLASSIFIER(
            name="ResNet18-3D",
            make=partial(_resnet, nets.resnet18, 3),
            **_SOLID | {"small": (24, 24, 24)},
        ),
        _CLASSIFIER(name="EfficientNet-B0", make=_efficientnet, **_PLANE),
        _CLASSIFIER(name="SEResNet50", make=_seresnet, **_PLANE),
        _CLASSIFIER(name="ViT-2D", make=_vit, **_PLANE),
        _CLASSIFIER(name="ViT-3D", make=_vit, **_SOLID | {"small": (32, 32, 32)}),
        _SEGMENTER(name="UNet", make=_unet, **_SOLID),
        _SEGMENTER(name="SegResNet", make=_segresnet, **_SOLID),
        _SEGMENTER(name="DynUNet", make=_dynunet, **_SOLID),
        _SEGMENTER(name="UNETR", make=_unetr, **_SOLID | {"small": (32, 32, 16)}),
        # Its five halvings must leave more than one cell.
        _SEGMENTER(
            name="SwinUNETR",
            make=_swin_unetr,
            **_SOLID | {"small": (64, 32, 32), "usual": (64, 64, 32)},
        ),
        _SEGMENTER(name="AttentionUnet", make=_attention_unet, **_SOLID),
        Specimen(
            name="MILModel",
            kind="bag",
            make=_mil,
            small=(4, 1, 64, 64),
            usual=(4, 1, 128, 128),
            full=(16, 1, 224, 224),
        ),
    )
}
