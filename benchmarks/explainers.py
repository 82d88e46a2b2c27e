"""What explaining costs, in forward passes of the network (F), beside captum and MONAI.

    python -m benchmarks.explainers [--rounds 5] [--json FILE]

F is the cheapest of several plain forward passes under ``torch.no_grad``; every other number is the
cheapest of as many runs, divided by it. One thread, counted in its processor time, so that a busy
machine does not change the ratios much.
"""

import argparse
import json
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from captum.attr import LayerGradCam
from monai.networks import nets
from monai.visualize import GradCAM as MonaiGradCAM
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from ai.explainers.cam import (
    CAM,
    EigenCAM,
    GradCAM,
    GradCAMPlusPlus,
    HiResCAM,
    LayerCAM,
    XGradCAM,
    explain_all,
)
from ai.explainers.layers import coarsest_layer, fine_layers, layout_of
from ai.model import Settings
from ai.targets import ClassLogit

GRADIENT_CAMS: tuple[CAM, ...] = (
    GradCAM(),
    GradCAMPlusPlus(),
    HiResCAM(),
    LayerCAM(),
    XGradCAM(),
)
TARGET = ClassLogit(1)
CHANNEL = 1

NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "DenseNet121 224x224": (
        lambda: nets.DenseNet121(spatial_dims=2, in_channels=1, out_channels=3),
        (224, 224),
    ),
    "ResNet18 224x224": (
        lambda: nets.resnet18(spatial_dims=2, n_input_channels=1, num_classes=3),
        (224, 224),
    ),
    "EfficientNet-B0 224x224": (
        lambda: nets.EfficientNetBN(
            "efficientnet-b0", pretrained=False, in_channels=1, num_classes=3
        ),
        (224, 224),
    ),
    "SEResNet50 224x224": (
        lambda: nets.SEResNet50(spatial_dims=2, in_channels=1, num_classes=3),
        (224, 224),
    ),
    "DenseNet121 96x96x96": (
        lambda: nets.DenseNet121(spatial_dims=3, in_channels=1, out_channels=3),
        (96, 96, 96),
    ),
    "ResNet18 64x64x64": (
        lambda: nets.resnet18(spatial_dims=3, n_input_channels=1, num_classes=3),
        (64, 64, 64),
    ),
}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--json", type=Path)
    chosen = arguments.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    rows = [_row(name, chosen.rounds) for name in NETWORKS]
    _show(rows)
    if chosen.json:
        chosen.json.write_text(json.dumps(rows, indent=1) + "\n")


def _row(name: str, rounds: int) -> dict[str, object]:
    make, extents = NETWORKS[name]
    torch.manual_seed(0)
    network = make().eval()
    x = torch.rand(1, 1, *extents)
    layout = layout_of(network, x)
    # MONAI's EfficientNet runs its activation module many times: MONAI's CAM needs one that runs
    # once.
    last = "_bn1" if hasattr(network, "_bn1") else coarsest_layer(layout)[0]
    at_last, at_fine = Settings(layers=(last,)), Settings(layers=fine_layers(layout))
    passes = _cheapest(lambda: _predict(network, x), rounds)
    runs: dict[str, Callable[[], object]] = {
        "ours, 5 CAMs, last layer": lambda: explain_all(network, x, TARGET, GRADIENT_CAMS, at_last),
        "ours, 5 CAMs, stride 8+16": lambda: explain_all(
            network, x, TARGET, GRADIENT_CAMS, at_fine
        ),
        "ours, LayerCAM, layer searched": lambda: LayerCAM().explain(network, x, TARGET),
        "ours, EigenCAM, last layer": lambda: EigenCAM().explain(network, x, TARGET, at_last),
        "captum, predict + Grad-CAM": lambda: _captum(network, x, last),
        "MONAI, predict + Grad-CAM": lambda: _monai(network, x, last),
    }
    ours = GradCAM().explain(network, x, TARGET, at_last).values
    return {
        "network": name,
        "F (ms)": round(passes * 1e3, 1),
        **{label: round(_cheapest(run, rounds) / passes, 2) for label, run in runs.items()},
        "difference to captum": _difference(ours, _enlarged(_captum(network, x, last), x)),
        "difference to MONAI": _difference(ours, _monai(network, x, last)),
    }


def _predict(network: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        return network(x)


def _captum(network: nn.Module, x: Tensor, layer: str) -> Tensor:
    _predict(network, x)
    method = LayerGradCam(network, network.get_submodule(layer))
    return method.attribute(x, CHANNEL, relu_attributions=True).detach()


def _monai(network: nn.Module, x: Tensor, layer: str) -> Tensor:
    _predict(network, x)
    return MonaiGradCAM(network, layer, postprocessing=lambda raw: raw)(x, class_idx=CHANNEL)


def _enlarged(values: Tensor, x: Tensor) -> Tensor:
    mode = "bilinear" if x.ndim == 4 else "trilinear"
    return nn.functional.interpolate(values, x.shape[2:], mode=mode)


def _difference(ours: Tensor, theirs: Tensor) -> str:
    size = float(theirs.abs().max())
    return f"{float((ours - theirs).abs().max()) / size:.0e}" if size else "both zero"


def _cheapest(run: Callable[[], object], rounds: int) -> float:
    run()
    times = []
    for _ in range(rounds):
        start = time.process_time()
        run()
        times.append(time.process_time() - start)
    return min(times)


def _show(rows: list[dict[str, object]]) -> None:
    table = Table("", *(str(row["network"]) for row in rows))
    for label in list(rows[0])[1:]:
        table.add_row(label, *(str(row[label]) for row in rows))
    Console(width=160).print(table)


if __name__ == "__main__":
    main()
