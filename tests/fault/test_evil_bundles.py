"""Bundles that attack: no code runs that nobody trusts, and the node keeps receiving."""

import json
import os
import sqlite3
import zipfile
from contextlib import closing

import pytest
import torch

from ai.errors import ModelUnavailableError
from ai.models.monai_bundle import describe_bundle, load
from node.config import Peer
from node.peer import send_files
from node.standin import StandInPacs
from tests.build_bundles import SEGMENTER, bright_voxel_weights, settings_for, write_bundle
from tests.fakes import NodeProcess, ball_files, bright_bundle


class Payload:
    """Runs a command when it is unpickled."""

    def __init__(self, command):
        self._command = command

    def __reduce__(self):
        return os.system, (self._command,)


@pytest.fixture
def marker(tmp_path):
    return tmp_path / "executed"


#: What a configuration may hold that runs when it is built; ``{}`` is the marker.
CODE = {
    "a target": {"network_def": {"_target_": "os.system", "command": "touch {}"}},
    "an expression": {"network_def": "$__import__('os').system('touch {}')"},
    "an import": {"imports": ["$__import__('os').system('touch {}')"]},
    "a target in a list": {"handlers": [{"_target_": "os.system", "command": "touch {}"}]},
    "a target that is an expression": {
        "network_def": {"_target_": "$__import__('os').system", "command": "touch {}"}
    },
    "a transform": {
        "preprocessing": {
            "_target_": "Compose",
            "transforms": [{"_target_": "subprocess.getoutput", "cmd": "touch {}"}],
        }
    },
}


@pytest.mark.parametrize("way", CODE)
def test_code_in_a_configuration_that_nobody_trusts_is_not_run(tmp_path, marker, way):
    changes = json.loads(json.dumps(CODE[way]).replace("{}", str(marker)))
    folder = write_bundle(tmp_path / "b", SEGMENTER, bright_voxel_weights(), changes=changes)

    describe_bundle(folder)
    with pytest.raises(ModelUnavailableError, match="trusted = true"):
        load(settings_for(folder, trusted=False))

    assert not marker.exists()


def test_code_in_weights_is_not_run_even_if_they_are_trusted(tmp_path, marker):
    folder = write_bundle(tmp_path / "b", SEGMENTER, {})
    torch.save({"weight": Payload(f"touch {marker}")}, folder / "models" / "model.pt")

    with pytest.raises(ModelUnavailableError, match="weights alone") as refused:
        load(settings_for(folder))

    assert not marker.exists()
    assert "weights_only" not in str(refused.value), "nobody is told how to run it all the same"


def test_code_in_yaml_is_not_run(tmp_path, marker):
    folder = write_bundle(tmp_path / "b", SEGMENTER, bright_voxel_weights())
    (folder / "configs" / "inference.json").unlink()
    evil = f"network_def: !!python/object/apply:os.system ['touch {marker}']"
    (folder / "configs" / "inference.yaml").write_text(evil)

    with pytest.raises(ModelUnavailableError, match=r"inference\.yaml"):
        load(settings_for(folder))

    assert not marker.exists()


def test_a_name_that_leads_out_of_the_bundle_is_refused(tmp_path):
    folder = write_bundle(tmp_path / "b", SEGMENTER, bright_voxel_weights())
    settings = settings_for(folder)
    (tmp_path / "model.pt").write_bytes((folder / "models" / "model.pt").read_bytes())
    known = {**settings.sha256, "../model.pt": settings.sha256["models/model.pt"]}

    with pytest.raises(ModelUnavailableError, match=r"\.\./model\.pt"):
        load(settings_for(folder, sha256=known))


def test_weights_above_the_bundle_are_refused(tmp_path):
    handler = {"_target_": "CheckpointLoader", "load_path": "../model.pt", "load_dict": {}}
    folder = write_bundle(tmp_path / "b", SEGMENTER, {}, changes={"handlers": [handler]})
    torch.save(bright_voxel_weights(), tmp_path / "model.pt")

    with pytest.raises(ModelUnavailableError, match="outside of"):
        load(settings_for(folder))


def test_weights_that_unpack_to_far_more_than_they_are_are_refused(tmp_path):
    folder = write_bundle(tmp_path / "b", SEGMENTER, bright_voxel_weights())
    with (
        zipfile.ZipFile(folder / "models" / "model.pt", "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("model/data.pkl", "w", force_zip64=True) as member,
    ):
        for _ in range(256):
            member.write(bytes(1 << 20))

    with pytest.raises(ModelUnavailableError):
        load(settings_for(folder))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused(tmp_path, value):
    weights = {name: torch.full_like(one, value) for name, one in bright_voxel_weights().items()}
    folder = write_bundle(tmp_path / "b", SEGMENTER, weights)

    with pytest.raises(ModelUnavailableError, match="not finite"):
        load(settings_for(folder))


def test_a_configuration_nested_without_end_is_refused(tmp_path):
    folder = write_bundle(tmp_path / "b", SEGMENTER, bright_voxel_weights())
    deep = '{"network_def": ' + "[" * 100_000 + "]" * 100_000 + "}"
    (folder / "configs" / "inference.json").write_text(deep)

    with pytest.raises(ModelUnavailableError):
        load(settings_for(folder))


@pytest.mark.slow
def test_a_node_whose_model_is_evil_disables_it_and_keeps_receiving(tmp_path, marker):
    bundle = bright_bundle(tmp_path / "bundle")
    torch.save({"weight": Payload(f"touch {marker}")}, bundle / "models" / "model.pt")

    with (
        StandInPacs(tmp_path / "pacs", ae_title="PACS") as pacs,
        NodeProcess(tmp_path / "data", bundle, {"pacs": pacs.port}) as node,
    ):
        assert sent(node, tmp_path / "first") == {0x0000}
        node.until(lambda: "state=parked" in node.log)
        assert sent(node, tmp_path / "second") == {0x0000}

    assert not marker.exists()
    assert "weights alone" in error_of_first_task(tmp_path / "data")


def error_of_first_task(data):
    with closing(sqlite3.connect(data / "ledger.sqlite")) as ledger:
        return ledger.execute("SELECT error FROM task ORDER BY id").fetchone()[0]


def sent(node, folder):
    """Return the statuses of the images of a study."""
    peer = Peer(name="node", ae_title="PELLUCID", host="127.0.0.1", port=node.port)
    files = ball_files(folder, seed=folder.name)
    return {one.status for one in send_files(peer, files, calling_ae="MODALITY")}
