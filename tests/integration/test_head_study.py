"""A real head, a real network, a real PACS: the same head sliced six ways must say the same.

The series go by DCMTK's storescu to ``pellucid run`` and its results by themselves to Orthanc;
everything is judged by what Orthanc hands out, read by highdicom and pydicom.
"""

import os
import re
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import highdicom
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pydicom import Dataset, dcmread

from dicom_io.encode.source_series import Subject, encode_source_series
from dicom_io.reported import report_in
from dicom_io.volume import Volume
from tests import peers
from tests.build import CREATED, OBLIQUE, t1_head_volume
from tests.build_bundles import HEAD, SEGMENTER, without_air, write_bundle
from tests.node_process import pellucid, running_node
from tests.orthanc import Orthanc, free_port, orthanc

pytestmark = [pytest.mark.peers, pytest.mark.slow, pytest.mark.timeout(1800)]

WAYS_TO_SLICE = ("axial", "sagittal", "coronal", "reversed", "oblique", "resampled")
#: Volumes (ml) of an independent run on the same head, and how far we may be off.
WHITE_ML, GRAY_ML, TOLERANCE = 531.0, 716.0, 0.03
#: Center (LPS mm, before any turning) and half size of the planted block: in the air, far left.
MARKER_MM = np.array([100.0, 20.0, 20.0])
MARKER_HALF_MM = 5.0
#: The head's middle, LPS mm.
MIDDLE_MM = np.array([0.0, 20.0, -5.0])
#: Brighter than anything in the head.
MARKER_VALUE = 400.0

_NETWORK = (
    "$torch.nn.Sequential(torch.nn.Conv3d(1, 2, 3, padding=1), torch.nn.ReLU(), "
    "torch.nn.Conv3d(2, 2, 1))"
)

NODE = """
[node]
port = {port}
bind = "127.0.0.1"
data = "{data}"
[storage]
reserve_gb = 0.5
[peers.modality]
ae_title = "MODALITY"
host = "127.0.0.1"
port = 104
[peers.pacs]
ae_title = "MAINPACS"
host = "127.0.0.1"
port = {pacs}
"""
ROUTES = """
[[route]]
name = "head-t1"
called = ["PELLUCID"]
when = "tags.Modality == 'MR'"
select = [{ name = "t1", Modality = "MR" }]
complete = { quiet_seconds = 4 }
model = "brain_meshnet3"
explain = []
results = ["report", "segmentation"]
send_to = ["pacs"]

[[route]]
name = "marker"
called = ["PELLUCID", "MARKER"]
when = "tags.Modality == 'MR'"
select = [{ name = "t1", Modality = "MR" }]
complete = { quiet_seconds = 4 }
model = "marker"
explain = []
results = ["report", "segmentation", "overlay"]
send_to = ["pacs"]

[[route]]
name = "head-explained"
called = ["XAI_HEAD"]
select = [{ name = "t1", Modality = "MR" }]
complete = { quiet_seconds = 4 }
run = [
  { model = "head_meshnet3", explain = [{ method = "layer_cam", depth = 0.8 }] },
  { model = "marker", explain = ["layer_cam"] },
]
results = ["report", "measurements", "segmentation", "bands", "overlay"]
send_to = ["pacs"]
"""


@dataclass(frozen=True)
class Arrived:
    """What the PACS holds of one study."""

    slicing: str
    objects: tuple[Path, ...]

    def of(self, modality: str, *texts: str) -> Dataset:
        """Return the one object of a modality whose series description contains all texts."""
        found = [
            dataset
            for dataset in map(dcmread, self.objects)
            if dataset.Modality == modality
            and all(text in dataset.SeriesDescription for text in texts)
        ]
        assert len(found) == 1, [dataset.SeriesDescription for dataset in found]
        return found[0]


@pytest.fixture(scope="module")
def hospital(tmp_path_factory) -> Iterator[tuple[Orthanc, int, Path]]:
    """A node with the real network and a marker finder, and the PACS it sends to."""
    peers.require_shared("data/t1_head.nii.gz")
    folder = tmp_path_factory.mktemp("hospital")
    port = free_port()
    with orthanc(folder / "pacs") as pacs:
        config = _write_config(folder, port, pacs.dicom_port)
        with running_node(config, folder / "node.log"):
            yield pacs, port, folder


@pytest.fixture(scope="module")
def studies(hospital) -> dict[str, Arrived]:
    """Send the head in every slicing, one study each, and return what came back of each."""
    pacs, port, folder = hospital
    expected = {}
    for slicing in WAYS_TO_SLICE:
        sent = folder / "sent" / slicing
        expected[slicing] = _write_study(sent, slicing)
        _storescu(sent, port, called="PELLUCID", backwards=slicing == "reversed")
    # Two models, each with a report, which is delivered last.
    held = _wait_for_reports(pacs, folder / "held", dict.fromkeys(expected.values(), 2))
    return {
        slicing: Arrived(slicing=slicing, objects=tuple(held[uid]))
        for slicing, uid in expected.items()
    }


@pytest.fixture(scope="module")
def explained(hospital, studies) -> Arrived:
    """Send the axial head to the AE title that explains both models, and return what came back."""
    pacs, port, folder = hospital
    uid = _write_study(folder / "sent" / "explained", "explained")
    _storescu(folder / "sent" / "explained", port, called="XAI_HEAD")
    # Of each model the report, and the measurements that viewers draw.
    held = _wait_for_reports(pacs, folder / "held", {uid: 4})
    return Arrived(slicing="axial", objects=tuple(held[uid]))


def test_every_slicing_gives_the_same_volumes(studies):
    volumes = {slicing: _volumes_ml(arrived) for slicing, arrived in studies.items()}
    same_voxels = [volumes[slicing] for slicing in WAYS_TO_SLICE if slicing != "resampled"]

    for name, truth in (("White", WHITE_ML), ("Gray", GRAY_ML)):
        values = [_named(each, name) for each in same_voxels]
        assert max(values) / min(values) < 1.01, (name, values)
        assert values == pytest.approx([truth] * len(values), rel=TOLERANCE)
        # Native resampling alone moves white matter by 3 to 5 %.
        assert _named(volumes["resampled"], name) == pytest.approx(truth, rel=0.06)


def test_segments_stay_in_place_in_every_slicing(studies):
    for name in ("White", "Gray"):
        reference = _centroid_mm(studies["axial"], name)
        for slicing, arrived in studies.items():
            expected = _moved(reference, slicing)
            distance = np.linalg.norm(_centroid_mm(arrived, name) - expected)
            assert distance < 1.0, (name, slicing, distance)


def test_a_marker_on_the_left_stays_on_the_left(studies):
    for slicing, arrived in studies.items():
        expected, middle = _moved(MARKER_MM, slicing), _moved(MIDDLE_MM, slicing)
        in_mask = _centroid_mm(arrived, "Marker")
        in_report = _stated_center_mm(arrived.of("SR", "Marker"))
        for found in (in_mask, in_report):
            assert np.linalg.norm(found - expected) < 1.0, (slicing, found, expected)
            # Left is +x in LPS.
            assert found[0] > middle[0] + 30.0, (slicing, found, middle)


def test_orthanc_took_every_object_and_dciodvfy_finds_no_error(studies):
    validator = peers.require("/usr/bin/dciodvfy", "apt-get install dicom3tools")
    for arrived in studies.values():
        for path in arrived.objects:
            answer = subprocess.run(
                [str(validator), str(path)], capture_output=True, text=True, check=False
            )
            errors = [line for line in answer.stderr.splitlines() if line.startswith("Error")]
            assert not errors, (arrived.slicing, path, errors[:5])


def test_dsrdump_prints_the_report(studies):
    dsrdump = peers.require("/usr/bin/dsrdump", "apt-get install dcmtk")
    arrived = studies["oblique"]
    for path in arrived.objects:
        if dcmread(path, stop_before_pixels=True).Modality == "SR":
            answer = subprocess.run(
                [str(dsrdump), str(path)], capture_output=True, text=True, check=False
            )
            assert answer.returncode == 0, answer.stderr
            assert "Volume" in answer.stdout


def test_the_marker_is_outlined_on_the_left_of_every_overlay(studies):
    for slicing, arrived in studies.items():
        volume = t1_head_volume(_orientation(slicing))
        outlined = _painted_mm(arrived, volume)
        distance = np.abs((outlined - _moved(MARKER_MM, slicing)) @ _turn(slicing)).max(axis=1)
        assert len(outlined) > 20, slicing
        # A line of a pixel around a block of 10 mm, and nothing anywhere else.
        assert distance.max() < MARKER_HALF_MM + 2.0, (slicing, distance.max())


def test_the_explained_marker_glows_on_the_left_in_bands_and_overlay(explained):
    bands = highdicom.seg.Segmentation.from_dataset(explained.of("SEG", "evidence for Marker"))
    volume = bands.get_volume(combine_segments=False)
    hottest = np.argwhere(volume.array[..., -1] > 0).mean(axis=0)
    assert np.linalg.norm((volume.affine @ [*hottest, 1.0])[:3] - MARKER_MM) < 5.0

    painted = _painted_mm(explained, t1_head_volume("axial"))
    assert np.linalg.norm(np.median(painted, axis=0) - MARKER_MM) < 5.0


def test_the_real_networks_explanations_arrive_measured(explained):
    items = list(_items(explained.of("SR", "report", "White")))
    regions = explained.of("SR", "regions", "White")
    names = [
        str(i.ConceptNameCodeSequence[0].CodeMeaning)
        for i in items
        if "ConceptNameCodeSequence" in i
    ]
    assert names.count("Comprehensiveness above displaced masks") == 2
    slot = [i for i in _items(regions) if _is_code(i, "130401", "DCM")]
    referred = {
        str(i.ReferencedSOPSequence[0].ReferencedSOPInstanceUID)
        for i in slot
        if i.ValueType == "IMAGE"
    }
    for name in ("White", "Gray"):
        assert str(explained.of("SEG", f"evidence for {name}").SOPInstanceUID) in referred


def test_the_same_study_sent_twice_leaves_no_second_set(hospital, studies):
    pacs, port, folder = hospital
    before = set(pacs.get("/instances"))
    _storescu(folder / "sent" / "coronal", port, called="PELLUCID")
    # What the node does first it delivers first: a second study's report ends the wait.
    uid = _write_study(folder / "sent" / "last", "last")
    _storescu(folder / "sent" / "last", port, called="MARKER")
    _wait_for_reports(pacs, folder / "held", {uid: 1})
    new = [
        identifier
        for series in pacs.series()
        if series["StudyInstanceUID"] == uid
        for identifier in series["orthanc_ids"]
    ]
    assert set(pacs.get("/instances")) - before == set(new)


def _write_config(folder: Path, port: int, pacs_port: int) -> Path:
    config = folder / "config"
    config.mkdir()
    (config / "node.toml").write_text(NODE.format(port=port, pacs=pacs_port, data=folder / "data"))
    marker = write_bundle(
        folder / "marker",
        SEGMENTER,
        _marker_weights(),
        channels={"0": "background", "1": "Marker"},
        changes={"network_def": _NETWORK},
    )
    tissue = peers.require_shared("data/brain_meshnet3")
    # The air around a head takes most of an explanation's time, and shows nothing.
    head = without_air(tissue, folder / "head_meshnet3", HEAD)
    for bundle in (tissue, head, marker):
        added = pellucid("models", "add", bundle, "--trust", "--config", config)
        assert added.returncode == 0, added.stderr
    (config / "routes.toml").write_text(ROUTES)
    return config


def _marker_weights() -> dict[str, torch.Tensor]:
    """Of ``_NETWORK``: channel 1 wins where the image is brighter than any tissue."""
    center = torch.zeros(2, 1, 3, 3, 3)
    center[0, 0, 1, 1, 1] = 1.0
    return {
        "0.weight": center,
        "0.bias": torch.tensor([-300.0, 0.0]),
        "2.weight": torch.tensor([[0.0, 0.0], [0.1, 0.0]]).reshape(2, 2, 1, 1, 1),
        "2.bias": torch.tensor([0.0, -1.0]),
    }


def _write_study(folder: Path, slicing: str) -> str:
    """Write the head with its marker as an MR series, and return the Study Instance UID."""
    volume = _marked(slicing)
    subject = Subject(patient_name="Real^Head", patient_id="T1", accession_number=slicing[:16])
    datasets = encode_source_series(
        volume, subject, seed=f"head {slicing}", created=CREATED, description="T1"
    )
    folder.mkdir(parents=True)
    for index, dataset in enumerate(datasets):
        dataset.save_as(folder / f"{index:04d}.dcm", enforce_file_format=True)
    return str(datasets[0].StudyInstanceUID)


def _orientation(slicing: str) -> str:
    return slicing if slicing in {"sagittal", "coronal", "oblique", "resampled"} else "axial"


def _marked(slicing: str) -> Volume:
    volume = t1_head_volume(_orientation(slicing))
    assert volume.affine is not None
    voxels = volume.voxels.copy()
    to_index = np.linalg.inv(volume.affine)
    corners = np.array(np.meshgrid(*[(-8.0, 8.0)] * 3)).reshape(3, -1).T
    near = (_moved(MARKER_MM, slicing) + corners) @ to_index[:3, :3].T + to_index[:3, 3]
    box = tuple(
        slice(int(low), int(high) + 2) for low, high in zip(near.min(0), near.max(0), strict=True)
    )
    grid = np.stack(np.meshgrid(*[np.arange(s.start, s.stop) for s in box], indexing="ij"), -1)
    points = grid @ volume.affine[:3, :3].T + volume.affine[:3, 3]
    back = points @ _turn(slicing)  # the inverse of a rotation is its transpose
    inside = (np.abs(back - MARKER_MM) <= MARKER_HALF_MM).all(axis=-1)
    voxels[0][box][inside] = MARKER_VALUE
    voxels.setflags(write=False)
    return replace(volume, voxels=voxels, window=(80.0, 160.0))


def _turn(slicing: str) -> NDArray[np.float64]:
    """Return the rotation of the patient in a slicing: the oblique one turns the world."""
    return np.asarray(OBLIQUE)[:3, :3] if slicing == "oblique" else np.eye(3)


def _moved(point_mm: NDArray[np.float64], slicing: str) -> NDArray[np.float64]:
    return np.asarray(_turn(slicing) @ point_mm)


def _storescu(folder: Path, port: int, *, called: str, backwards: bool = False) -> None:
    storescu = peers.require("/usr/bin/storescu", "apt-get install dcmtk")
    files = sorted(folder.glob("*.dcm"), reverse=backwards)
    subprocess.run(
        [
            str(storescu),
            "-aet",
            "MODALITY",
            "-aec",
            called,
            "127.0.0.1",
            str(port),
            *map(str, files),
        ],
        check=True,
        capture_output=True,
        timeout=300,
        env={**os.environ, "TCP_NODELAY": "1", "TCP_BUFFER_LENGTH": "1048576"},
    )


def _wait_for_reports(pacs: Orthanc, folder: Path, wanted: dict[str, int]) -> dict[str, list[Path]]:
    """Wait until the PACS holds so many reports of each study; return its objects, as files.

    Of overlays, only those of the marker are fetched: there are hundreds.
    """
    deadline = time.monotonic() + 1500
    while time.monotonic() < deadline:
        held = pacs.series()
        reports = {
            uid: sum(s["StudyInstanceUID"] == uid and s["Modality"] == "SR" for s in held)
            for uid in wanted
        }
        if reports == wanted:
            break
        time.sleep(1.0)
    assert reports == wanted, f"after 15 minutes Orthanc holds {reports}"
    folder.mkdir(exist_ok=True)
    return {uid: _fetched(pacs, uid, folder) for uid in wanted}


def _fetched(pacs: Orthanc, study_uid: str, folder: Path) -> list[Path]:
    files = []
    for series in pacs.series():
        overlay = series["Modality"] == "OT" and "marker" not in series["SeriesDescription"].lower()
        if series["StudyInstanceUID"] == study_uid and not overlay:
            for identifier in series["orthanc_ids"]:
                files.append(folder / f"{identifier}.dcm")
                files[-1].write_bytes(pacs.get_bytes(f"/instances/{identifier}/file"))
    return files


def _volumes_ml(arrived: Arrived) -> dict[str, float]:
    """Return what the tissue report states: meaning of each finding to its volume."""
    report = report_in(arrived.of("SR", "White"))
    return {s.meaning: s.volume_ml for s in report.segments if s.volume_ml is not None}


def _named(volumes: dict[str, float], name: str) -> float:
    return next(value for meaning, value in volumes.items() if name.lower() in meaning.lower())


def _centroid_mm(arrived: Arrived, name: str) -> NDArray[np.float64]:
    """Return the center of a segment in LPS mm, by highdicom's reader."""
    for dataset in map(dcmread, arrived.objects):
        for index, item in enumerate(dataset.get("SegmentSequence") or ()):
            if name.lower() in str(item.SegmentLabel).lower():
                segmentation = highdicom.seg.Segmentation.from_dataset(dataset)
                volume = segmentation.get_volume(combine_segments=False)
                center = np.argwhere(volume.array[..., index]).mean(axis=0)
                return np.asarray((volume.affine @ [*center, 1.0])[:3])
    raise AssertionError(f"no segment {name} in {arrived.slicing}")


def _stated_center_mm(report: Dataset) -> NDArray[np.float64]:
    """Return the center of mass that a report states in words: ``L 42.1, P 13.0, H 8.2 mm``."""
    text = next(filter(None, map(_center_text, _items(report))))
    values = [
        float(value) * (1.0 if letter in "LPH" else -1.0)
        for letter, value in re.findall(r"([LRPAHF]) (\d+\.\d+)", text)
    ]
    assert len(values) == 3, text
    return np.array(values)


def _center_text(item: Dataset) -> str:
    name = item.get("ConceptNameCodeSequence")
    return str(item.TextValue) if name and name[0].CodeMeaning == "Center of mass" else ""


def _items(item: Dataset) -> Iterator[Dataset]:
    for child in item.get("ContentSequence") or ():
        yield child
        yield from _items(child)


def _is_code(item: Dataset, value: str, scheme: str) -> bool:
    name = item.get("ConceptNameCodeSequence")
    return bool(name) and (name[0].CodeValue, name[0].CodingSchemeDesignator) == (value, scheme)


def _painted_mm(arrived: Arrived, volume: Volume) -> NDArray[np.float64]:
    """Return where the marker's overlays are colored inside the image, LPS mm [n, 3]."""
    overlays = [dcmread(path) for path in arrived.objects]
    points = [
        _colored_mm(each)
        for each in overlays
        if each.Modality == "OT" and "marker" in each.SeriesDescription.lower()
    ]
    found = np.concatenate(points)
    assert volume.affine is not None
    index = (found - volume.affine[:3, 3]) @ np.linalg.inv(volume.affine[:3, :3]).T
    # Legend and orientation letters lie outside the image.
    inside = (index > -0.6) & (index < np.array(volume.grid_shape) - 0.4)
    return np.asarray(found[inside.all(axis=1)])


def _colored_mm(overlay: Dataset) -> NDArray[np.float64]:
    """Return the places of the pixels that are not gray, by the overlay's own geometry."""
    picture = overlay.pixel_array.astype(int)
    rows, columns = np.nonzero(picture.max(axis=-1) - picture.min(axis=-1) > 40)
    down, right = (float(value) for value in overlay.PixelSpacing)
    position = np.array([float(value) for value in overlay.ImagePositionPatient])
    axes = np.array([float(value) for value in overlay.ImageOrientationPatient]).reshape(2, 3)
    return np.asarray(
        position + np.outer(columns * right, axes[0]) + np.outer(rows * down, axes[1])
    )
