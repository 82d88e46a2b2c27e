"""The comparison of an evidence head with a black box, as far as a few steps show it to work."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from rich.progress import Progress

from ai.phantom.network import STRIDE
from benchmarks import hybrids
from benchmarks.hybrid_training import (
    FIRST_TRAINING_SEED,
    Plan,
    arms,
    batch,
    make_cases,
    network_of,
    relevance_outside,
    train,
)
from tests.build_networks import image

BLACK_BOX, EVIDENCE, TAUGHT = arms([1])


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    return tmp_path_factory.mktemp("hybrids")


@pytest.fixture(scope="module")
def lesions(work):
    with Progress(disable=True) as progress, ThreadPoolExecutor(1) as pool:
        return make_cases(8, work / "heads", pool, progress)


def test_heads_with_and_without_a_lesion_are_told_apart(lesions):
    assert list(lesions) == list(range(FIRST_TRAINING_SEED, FIRST_TRAINING_SEED + 8))
    assert 0 < sum(lesions.values()) < 8


def test_both_networks_begin_with_the_same_backbone():
    box, evidence = network_of(BLACK_BOX, 3), network_of(EVIDENCE, 3)

    assert box(image(2, 1, 32, 32, 32)).shape == evidence(image(2, 1, 32, 32, 32)).shape == (2, 1)
    for (name, one), (_, other) in zip(
        box[:5].state_dict().items(), evidence[:5].state_dict().items(), strict=True
    ):
        assert torch.equal(one, other), name


def test_both_see_the_same_images_and_only_annotated_ones_are_outlined(work, lesions):
    plan = Plan(cases=8, steps=10, seed=0)

    seen = [batch(arm, plan, lesions, work / "heads", 0) for arm in (BLACK_BOX, EVIDENCE, TAUGHT)]

    assert torch.equal(seen[0][0], seen[1][0])
    assert not seen[0][2].any()
    assert not seen[1][2].any()
    assert seen[2][2].sum() >= 16
    images, filling, _ = seen[0]
    assert images.shape == (64, 1, 16, 16, 16)
    assert filling.shape == (64, 1, 4, 4, 4)


def test_the_last_steps_see_whole_heads(work, lesions):
    plan = Plan(cases=8, steps=10, seed=0)

    images, filling, outlined = batch(TAUGHT, plan, lesions, work / "heads", 9)

    assert images.shape == (3, 1, 84, 104, 88)
    assert filling.shape[2:] == tuple(extent // STRIDE for extent in images.shape[2:])
    assert outlined.any()


def test_relevance_outside_an_outline_is_counted_on_paper():
    # At a sharpness of 2 the places weigh 1, 4 and 1.
    evidence = torch.log(torch.tensor([1.0, 2.0, 1.0])).reshape(1, 1, 3, 1, 1)
    inside = torch.tensor([False, True, True]).reshape(1, 1, 3, 1, 1)

    loss = relevance_outside(evidence.repeat(2, 1, 1, 1, 1), torch.cat((inside, inside & False)))

    assert loss.item() == pytest.approx(-torch.tensor(5 / 6).log().item())
    assert relevance_outside(evidence, inside & False).item() == 0.0


def test_training_that_was_stopped_ends_with_the_same_weights(work, lesions, tmp_path):
    plan = Plan(cases=8, steps=2, seed=1)
    (tmp_path / "heads").symlink_to(work / "heads")
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "heads").symlink_to(work / "heads")

    with Progress(disable=True) as progress:
        straight = train(TAUGHT, plan, lesions, work=tmp_path, progress=progress)
        parts = {"work": tmp_path / "parts", "progress": progress}
        train(TAUGHT, plan, lesions, **parts, until=1)
        resumed = train(TAUGHT, plan, lesions, **parts)

    for name, weights in straight.state_dict().items():
        assert torch.equal(weights, resumed.state_dict()[name]), name
    with Progress(disable=True) as progress, pytest.raises(SystemExit, match="remove it"):
        train(TAUGHT, Plan(cases=8, steps=9, seed=1), lesions, work=tmp_path, progress=progress)


@pytest.mark.slow
def test_a_short_run_compares_them_and_goes_on_where_it_was(work, lesions, tmp_path, capsys):
    words = ["--work", str(work), "--cases", "8", "--steps", "2", "--annotated", "1"]
    words += ["--seeds", "3", "--first", "900000", "--maps", "1", "--methods", "layer_cam", "lrp"]
    files = [tmp_path / name for name in ("first.json", "again.json")]

    for file in files:
        hybrids.main([*words, "--json", str(file)])

    first, again = (json.loads(file.read_text(encoding="utf-8")) for file in files)
    assert first == again
    assert len((work / "readings.jsonl").read_text(encoding="utf-8").splitlines()) == 3
    assert list(first["arms"]) == ["black box", "evidence", "evidence, 1 outlined"]
    assert list(first["arms"]["black box"]["maps"]) == ["layer_cam", "lrp"]
    assert first["arms"]["evidence"]["maps"]["evidence"]["greatest_residual"] <= 1e-5
    assert list(first["controls"]) == ["random", "sobel", "intensity"]
    assert "black box: AUC" in capsys.readouterr().out
