"""A reliability that was fitted on phantoms, through the whole path: read, assess, report."""

import json
import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pytest
import torch
from pydicom import dcmread
from typer.testing import CliRunner

from ai.assess import STRANGE
from ai.models.phantom import WEIGHTS_SHA256, load
from ai.phantom.make import make_phantom
from ai.reliability.answers import Activation
from ai.reliability.assessment import Cases, fit_reliability
from ai.session import ExplainSession
from ai.settings import ModelSettings
from dicom_io.encode.reliability_words import DO_NOT_RELY
from dicom_io.encode.source_series import encode_source_series
from dicom_io.results import list_results
from node.cli import app
from tests.build_reliability import stored_reliability
from tests.fakes import CREATED, SUBJECT
from tests.peers import require

pytestmark = pytest.mark.slow

#: Among them are a lesion that the model misses and a decoy that it calls.
FITTED = range(800_021, 800_031)
#: With a lesion that the model finds.
SHOWN = 900_001


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """A configuration folder with the phantom's model and what was fitted to it."""
    folder = tmp_path_factory.mktemp("config")
    named = stored_reliability(fitted(), folder / "phantom.npz")
    (folder / "models").mkdir()
    (folder / "node.toml").write_text(f'[node]\ndata = "{folder / "data"}"\n')
    (folder / "models" / "p.toml").write_text(
        '[model]\nname = "p"\nkind = "phantom"\n[model.reliability]\n'
        f'file = "phantom.npz"\nsha256 = "{named.sha256}"\n'
    )
    return folder


def fitted():
    model = load(ModelSettings(name="p", kind="phantom"))
    phantoms = [make_phantom(seed) for seed in FITTED]
    heads = [model.prepare(each.volume).tensor for each in phantoms]
    first = ExplainSession(model.network, heads[0], variants=())
    passes = [first.on(head) for head in heads]
    cases = Cases(
        logits=torch.cat([each.output for each in passes]),
        labels=torch.tensor([int(each.has_lesion) for each in phantoms]),
        features=torch.cat([each.features for each in passes]),
        activation=Activation.SIGMOID,
    )
    return fit_reliability(cases, weights_sha256=WEIGHTS_SHA256)


def analyzed(volume, config, folder):
    """Return the printed words, ``analysis.json`` and the objects of ``pellucid analyze``."""
    (folder / "in").mkdir()
    for index, dataset in enumerate(
        encode_source_series(volume, SUBJECT, seed="reliability", created=CREATED)
    ):
        dataset.save_as(folder / "in" / f"{index}.dcm", enforce_file_format=True)
    command = ["analyze", str(folder / "in"), "--model", "p", "--out", str(folder / "out")]
    ran = CliRunner().invoke(app, [*command, "--config", str(config)])
    assert ran.exit_code == 0, ran.output
    (said,) = json.loads((folder / "out" / "analysis.json").read_text())["analyses"]
    return ran.output, said, list_results(folder / "out")


@pytest.fixture(scope="module")
def strange(config, tmp_path_factory):
    """What became of a phantom of inverted contrast, and the folder with it."""
    folder = tmp_path_factory.mktemp("strange")
    return folder, *analyzed(inverted(make_phantom(SHOWN).volume), config, folder)


def sentences(folder):
    """Every text of the report."""
    (report,) = (
        each.path
        for each in list_results(folder / "out")
        if each.series_description.startswith("AI report")
    )
    return list(texts_of(dcmread(report)))


def texts_of(item):
    for child in item.get("ContentSequence") or ():
        if child.ValueType == "TEXT":
            yield str(child.TextValue)
        yield from texts_of(child)


def inverted(volume):
    head = volume.voxels > 0
    turned = np.where(head, volume.voxels.max() + 1 - volume.voxels, 0).astype(np.float32)
    return replace(volume, voxels=turned)


def test_a_new_phantom_is_familiar_and_its_finding_explained(config, tmp_path):
    words, said, results = analyzed(make_phantom(SHOWN).volume, config, tmp_path)

    (finding,) = said["findings"]
    assert finding["present"]
    assert finding["calibrated"]
    assert finding["certainty"]["level"] == 0.9
    assert said["familiarity"]["is_familiar"]
    assert said["familiarity"]["distance"] < said["familiarity"]["distance_limit"]
    assert [each["method"] for each in said["explanations"]] == ["layer_cam"]
    assert said["failed_explanations"] == []
    assert {"SEG", "OT", "SR"} == {each.modality for each in results}
    assert "The image is like those that the model was validated on" in words
    assert any("calibrated probability" in each for each in sentences(tmp_path))


def test_of_a_phantom_of_inverted_contrast_no_heatmap_is_made(strange):
    folder, words, said, results = strange

    (finding,) = said["findings"]
    assert finding["present"]
    assert not said["familiarity"]["is_familiar"]
    assert said["familiarity"]["distance"] > 10 * said["familiarity"]["distance_limit"]
    assert said["explanations"] == []
    assert [each["reason"] for each in said["failed_explanations"]] == [STRANGE]
    assert [each.modality for each in results] == ["SR"]
    assert DO_NOT_RELY in words
    assert any(each.startswith(DO_NOT_RELY) for each in sentences(folder))


def test_a_file_that_changed_disables_the_model_and_check_says_so(config, tmp_path):
    other = tmp_path / "config"
    shutil.copytree(config, other)
    (other / "phantom.npz").write_bytes(b"else")

    verified = CliRunner().invoke(app, ["models", "verify", "p", "--config", str(other), "--json"])
    checked = CliRunner().invoke(app, ["check", "--config", str(other), "--json"])

    assert (verified.exit_code, checked.exit_code) == (1, 1)
    (row,) = json.loads(verified.output)
    assert "phantom.npz has sha256" in row["words"]
    assert "phantom.npz has sha256" in checked.output


@pytest.mark.peers
def test_an_independent_validator_finds_no_error_in_the_report(strange):
    validator = require("/usr/bin/dciodvfy", "install Debian's dicom3tools")
    _, _, _, results = strange

    ran = subprocess.run([validator, results[0].path], capture_output=True, text=True, check=False)

    lines = (ran.stdout + ran.stderr).splitlines()
    assert lines
    assert [line for line in lines if line.startswith("Error")] == []
