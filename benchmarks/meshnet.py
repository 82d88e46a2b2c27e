"""What a real network over a real head costs: loading, predicting, explaining, measuring.

    python -m benchmarks.meshnet BUNDLE HEAD.nii.gz [--threads 1] [--json FILE]

``BUNDLE`` is a trusted MONAI bundle that segments heads; seconds are of the wall clock, memory is
the largest that the process has had until then.
"""

import argparse
import json
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch

from ai.explainers.cam import LayerCAM
from ai.models.bundle_files import hash_bundle
from ai.models.monai_bundle import load
from ai.prepare import mask_to_prepared_grid
from ai.quality.faithfulness import comprehensiveness
from ai.settings import ModelSettings
from ai.targets import SegmentMass
from dicom_io.volume import SourceFrame, Volume

RESULTS = Path(__file__).parent / "results" / "meshnet.json"


def head_volume(path: Path) -> Volume:
    image: Any = nibabel.load(path)
    ras_to_lps = np.diag([-1.0, -1.0, 1.0, 1.0])
    voxels = np.asarray(image.dataobj, dtype=np.float32)[None]
    frames = tuple(
        SourceFrame(sop_instance_uid=f"1.2.{index}", sop_class_uid="1.2.840.10008.5.1.4.1.1.4")
        for index in range(voxels.shape[1])
    )
    return Volume(
        voxels=voxels,
        affine=ras_to_lps @ np.asarray(image.affine, dtype=np.float64),
        frames=frames,
        modality="MR",
        series_instance_uid="1.2",
        frame_of_reference_uid="1.3",
        pixel_spacing_mm=None,
    )


class Watch:
    def __init__(self) -> None:
        self.figures: dict[str, dict[str, float]] = {}

    def time(self, name: str, work: Callable[[], Any]) -> Any:
        start = time.monotonic()
        made = work()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        self.figures[name] = {
            "seconds": round(time.monotonic() - start, 1),
            "peak_gib": round(peak, 1),
        }
        print(name, self.figures[name], flush=True)
        return made


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.meshnet", description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("head", type=Path)
    parser.add_argument("--threads", type=int, default=1, help="of torch (%(default)s)")
    parser.add_argument("--json", type=Path, default=RESULTS, help="file (%(default)s)")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    watch, volume = Watch(), head_volume(asked.head)
    settings = ModelSettings(
        name=asked.bundle.name,
        bundle=asked.bundle.resolve(),
        trusted=True,
        sha256=hash_bundle(asked.bundle),
    )
    model = watch.time("load", lambda: load(settings))
    prepared = watch.time("prepare", lambda: model.prepare(volume))
    predicted = watch.time("predict", lambda: model.predict(prepared))
    label = model.labels[0]
    mask = mask_to_prepared_grid(predicted.masks[label.name], prepared)
    target, x = SegmentMass(label.channel, mask), prepared.tensor
    later = LayerCAM(depth=0.8)
    watch.time("LayerCAM, depth 0.8", lambda: later.explain(model.network, x, target))
    shown = watch.time("LayerCAM", lambda: LayerCAM().explain(model.network, x, target))
    watch.time(
        "comprehensiveness", lambda: comprehensiveness(model.network, x, target, shown.values)
    )
    content = {"bundle": asked.bundle.name, "threads": asked.threads, "figures": watch.figures}
    asked.json.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
