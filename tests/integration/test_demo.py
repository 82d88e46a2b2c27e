"""The demo succeeds when everything works, and says so when something does not."""

import hashlib
import re
import subprocess
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from ai.models.phantom import load
from ai.settings import ModelSettings
from dicom_io.results import list_results
from dicom_io.volume import Volume
from node.commands.demo import run_demo
from node.config import ExplainSpec
from node.demo.stage import Stage, default_stage
from node.standin import StandInPacs
from tests import peers
from tests.node_process import pellucid

pytestmark = pytest.mark.slow


@pytest.fixture
def stage() -> Stage:
    """The demo's stage with one explainer, which is enough to fail by."""
    return replace(default_stage(), explain=(ExplainSpec(method="layer_cam"),))


def test_demo_finds_the_lesion_and_leaves_objects_and_a_picture(tmp_path):
    answer = pellucid("demo", "--out", tmp_path / "out")

    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert "BROKEN" not in answer.stdout
    assert answer.stdout.count("kept") == 4
    results = list_results(tmp_path / "out" / "pacs")
    # The report, and the measurements that viewers draw.
    assert Counter(each.modality for each in results)["SR"] == 2
    assert (tmp_path / "out" / "montage.png").stat().st_size > 100_000
    _require_no_dciodvfy_error([each.path for each in results])


def test_demo_with_shuffled_weights_fails_and_says_why(stage, tmp_path, capsys):
    broken = replace(stage, model=_shuffled(tmp_path / "weights"))

    assert run_demo(tmp_path / "out", broken) == 1

    assert _broken(capsys.readouterr().out) >= {"every heatmap hits the lesion"}


def test_demo_with_a_mirrored_image_fails_and_says_why(stage, tmp_path, capsys):
    assert run_demo(tmp_path / "out", replace(stage, image=_mirrored)) == 1

    # The lesion is found, only on the wrong side.
    assert _broken(capsys.readouterr().out) == {"every heatmap hits the lesion"}


def test_demo_with_a_dropped_object_fails_and_says_why(stage, tmp_path, capsys):
    broken = replace(stage, pacs=_ForgetfulPacs)

    assert run_demo(tmp_path / "out", broken) == 1

    out = capsys.readouterr().out
    assert _broken(out) == {"every object arrived"}
    assert "missing 2.25." in out


def test_demo_with_a_pacs_that_refuses_fails_and_says_why(stage, tmp_path, capsys):
    broken = replace(stage, pacs=_answering(lambda uid: 0xA900))

    assert run_demo(tmp_path / "out", broken) == 1

    assert "status 0xA900" in capsys.readouterr().out


def _broken(out: str) -> set[str]:
    return set(re.findall(r"BROKEN (.*?):", out))


def _shuffled(folder: Path) -> ModelSettings:
    """Return settings of the phantom model whose convolution weights are in random order."""
    state = load(ModelSettings(name="phantom", kind="phantom")).network.state_dict()
    generator = torch.Generator().manual_seed(1)
    for name, values in state.items():
        if values.ndim > 1:
            order = torch.randperm(values.numel(), generator=generator)
            state[name] = values.flatten()[order].reshape(values.shape)
    folder.mkdir()
    torch.save(state, folder / "weights.pt")
    digest = hashlib.sha256((folder / "weights.pt").read_bytes()).hexdigest()
    return ModelSettings(
        name="phantom", kind="phantom", bundle=folder, sha256={"weights.pt": digest}
    )


def _mirrored(volume: Volume) -> Volume:
    """Return the volume with left and right exchanged in pixels, but not in its header."""
    voxels = volume.voxels[..., ::-1].copy()
    voxels.setflags(write=False)
    return replace(volume, voxels=voxels)


def _answering(answer: Callable[[str], int]) -> Callable[[Path], StandInPacs]:
    return lambda folder: StandInPacs(folder, answer=answer)


class _ForgetfulPacs(StandInPacs):
    """Answers Success to everything and loses the first overlay."""

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        overlays = (each for each in list_results(self.folder) if each.modality == "OT")
        next(overlays).path.unlink()


def _require_no_dciodvfy_error(paths: list[Path]) -> None:
    validator = peers.require("/usr/bin/dciodvfy", "apt-get install dicom3tools")
    for path in paths:
        answer = subprocess.run(
            [str(validator), str(path)], capture_output=True, text=True, check=False
        )
        assert not [line for line in answer.stderr.splitlines() if line.startswith("Error")]
