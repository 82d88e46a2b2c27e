"""A real PACS takes every result object and gives it back unchanged."""

import subprocess
from importlib.metadata import entry_points

import numpy as np
import pydicom
import pytest

from dicom_io.encode.objects import encode_analyses
from tests.build_analysis import (
    OBLIQUE,
    make_analysis,
    make_enhanced_input,
    make_input,
    make_origin,
    make_photograph,
    make_projection,
)
from tests.orthanc import orthanc
from tests.peers import require

ENCODERS = {entry.name: entry.load() for entry in entry_points(group="pellucid.encoders")}
SOURCES = {
    "oblique": (lambda: make_input(OBLIQUE, "MR"), "1"),
    "multi-frame": (make_enhanced_input, "2"),
    "radiograph": (make_projection, "3"),
    "photograph": (make_photograph, "4"),
}


@pytest.mark.peers
def test_pacs_stores_and_returns_every_object_unchanged(tmp_path):
    storescu = require("/usr/bin/storescu", "apt-get install dcmtk")
    sent = {}
    for make, route in SOURCES.values():
        source = make()
        origin = make_origin(route=route)
        for dataset in encode_analyses([make_analysis(source)], [source], origin, ENCODERS):
            sent[str(dataset.SOPInstanceUID)] = dataset
    for uid, dataset in sent.items():
        dataset.save_as(tmp_path / f"{uid}.dcm", enforce_file_format=True)

    with orthanc(tmp_path / "orthanc") as pacs:
        subprocess.run(
            [
                storescu,
                "-R",
                "-xr",
                "+sd",
                "+sp",
                "*.dcm",
                "-aec",
                pacs.ae_title,
                "127.0.0.1",
                str(pacs.dicom_port),
                tmp_path,
            ],
            check=True,
            capture_output=True,
        )
        returned = {path.stem: pydicom.dcmread(path) for path in pacs.save(tmp_path / "back")}

    assert set(returned) == set(sent)
    for uid, dataset in returned.items():
        assert str(dataset.PatientName) == "Müller^Änne"
        assert dataset.SeriesInstanceUID == sent[uid].SeriesInstanceUID
        if "PixelData" in dataset:
            expected = np.frombuffer(sent[uid].PixelData, np.uint8)
            np.testing.assert_array_equal(np.frombuffer(dataset.PixelData, np.uint8), expected)
