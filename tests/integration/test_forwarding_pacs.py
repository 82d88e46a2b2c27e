"""A PACS that forwards every new instance back to the node: nothing may go round twice."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from ai.phantom.make import make_phantom
from dicom_io.encode.source_series import Subject, encode_source_series
from node.config import Peer
from node.config_folder import load_config
from node.ledger.engine import open_ledger, reading
from node.peer import send_files
from tests.build import CREATED
from tests.node_process import running_node
from tests.orthanc import free_port, orthanc

pytestmark = [pytest.mark.peers, pytest.mark.slow]

NODE = """
[node]
port = {port}
bind = "127.0.0.1"
data = "{data}"
[storage]
reserve_gb = 0.5
[peers.pacs]
ae_title = "MAINPACS"
host = "127.0.0.1"
port = {pacs}
"""
ROUTE = """
[[route]]
name = "phantom"
complete = { quiet_seconds = 3 }
model = "phantom"
explain = ["layer_cam"]
results = ["report", "bands"]
send_to = ["pacs"]
"""
#: Report and bands.
RESULTS = 2


def test_orthanc_that_forwards_everything_back_causes_no_loop(tmp_path):
    port = free_port()
    with orthanc(tmp_path / "pacs", node_port=port, forward=True) as pacs:
        config = _write_config(tmp_path, port, pacs.dicom_port)
        first, second = _write_phantom(tmp_path, 1), _write_phantom(tmp_path, 7)
        with running_node(config, tmp_path / "node.log"):
            # The study goes to the PACS, which forwards it; so do our results when they arrive.
            _send(first, pacs.dicom_port)
            _wait_until(lambda: len(pacs.instances()) == len(first) + RESULTS)
            _wait_until(lambda: _came_back(config) == RESULTS)
            # A second study that has gone all the way shows that nothing of the first was pending.
            _send(second, pacs.dicom_port)
            _wait_until(lambda: _came_back(config) == 2 * RESULTS)

        assert len(pacs.instances()) == len(first) + len(second) + 2 * RESULTS
        assert len(_routes_run(config)) == 2


def _write_config(folder: Path, port: int, pacs_port: int) -> Path:
    config = folder / "config"
    config.mkdir()
    (config / "node.toml").write_text(NODE.format(port=port, pacs=pacs_port, data=folder / "data"))
    (config / "routes.toml").write_text(ROUTE)
    return config


def _write_phantom(folder: Path, seed: int) -> list[Path]:
    phantom = make_phantom(seed)
    assert phantom.has_lesion
    files = []
    for dataset in encode_source_series(
        phantom.volume, Subject(patient_id="P"), seed=str(seed), created=CREATED
    ):
        files.append(folder / f"{dataset.SOPInstanceUID}.dcm")
        dataset.save_as(files[-1], enforce_file_format=True)
    return files


def _send(files: list[Path], port: int) -> None:
    pacs = Peer(name="pacs", ae_title="MAINPACS", host="127.0.0.1", port=port)
    assert {each.status for each in send_files(pacs, files, calling_ae="MODALITY")} == {0x0000}


def _came_back(config: Path) -> int:
    """Return how many of our own objects the node was sent and knew as its own."""
    query = "SELECT count(DISTINCT sop_instance_uid) FROM reception WHERE meaning = 'ours'"
    return int(_asked(config, query)[0][0])


def _routes_run(config: Path) -> list[Any]:
    return _asked(config, "SELECT id FROM task")


def _asked(config: Path, query: str) -> list[Any]:
    engine = open_ledger(load_config(config).node.database)
    try:
        with reading(engine) as connection:
            return list(connection.execute(text(query)))
    finally:
        engine.dispose()


def _wait_until(reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 300
    while not reached():
        assert time.monotonic() < deadline, "not within 300 s"
        time.sleep(0.2)
