"""The matrix: fifteen networks of MONAI that every explanation is held against.

Weights are random and seeded. Batch normalization has seen a few images first, as in a trained
network: with its initial statistics the activations of a deep one grow without bounds.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from monai.networks import nets
from torch import Tensor, nn

_BATCH_NORMALIZATIONS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


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
    full: tuple[int, ...]

    def network(self, extents: tuple[int, ...], *, seed: int = 0) -> nn.Module:
        """Return the network in evaluation mode, after it has seen two batches of images."""
        torch.manual_seed(seed)
        network = self.make(extents)
        layers = [each for each in network.modules() if isinstance(each, _BATCH_NORMALIZATIONS)]
        for layer in layers:
            layer.momentum = None  # the mean over all batches
        if layers:
            network.train()
            with torch.no_grad():
                for batch in range(2):
                    network(self.image(extents, batch=2, seed=seed + batch + 1))
        return network.eval()

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


def _swin_unetr(_extents: tuple[int, ...]) -> nn.Module:
    return nets.SwinUNETR(in_channels=1, out_channels=3, feature_size=12, spatial_dims=3)


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
_PLANE = {"small": (64, 64), "full": (224, 224)}
_SOLID = {"small": (32, 32, 32), "full": (96, 96, 96)}

#: By name, in the order of the tables.
MATRIX: dict[str, Specimen] = {
    each.name: each
    for each in (
        _CLASSIFIER(name="DenseNet121", make=_densenet, **_PLANE),
        _CLASSIFIER(name="ResNet18", make=partial(_resnet, nets.resnet18, 2), **_PLANE),
        _CLASSIFIER(name="ResNet50", make=partial(_resnet, nets.resnet50, 2), **_PLANE),
        _CLASSIFIER(name="ResNet18-3D", make=partial(_resnet, nets.resnet18, 3), **_SOLID),
        _CLASSIFIER(name="EfficientNet-B0", make=_efficientnet, **_PLANE),
        _CLASSIFIER(name="SEResNet50", make=_seresnet, **_PLANE),
        _CLASSIFIER(name="ViT-2D", make=_vit, **_PLANE),
        _CLASSIFIER(name="ViT-3D", make=_vit, small=(32, 32, 32), full=(96, 96, 96)),
        _SEGMENTER(name="UNet", make=_unet, **_SOLID),
        _SEGMENTER(name="SegResNet", make=_segresnet, **_SOLID),
        _SEGMENTER(name="DynUNet", make=_dynunet, **_SOLID),
        _SEGMENTER(name="UNETR", make=_unetr, **_SOLID),
        _SEGMENTER(name="SwinUNETR", make=_swin_unetr, small=(64, 64, 64), full=(96, 96, 96)),
        _SEGMENTER(name="AttentionUnet", make=_attention_unet, **_SOLID),
        Specimen(
            name="MILModel", kind="bag", make=_mil, small=(4, 1, 64, 64), full=(8, 1, 128, 128)
        ),
    )
}
