"""Every image of pydicom and pydicom-data: read with its known geometry, or refused by name.

What each file must come out as is in ``real_files.tsv``, written from the files' attributes and
the standard before the reader was run on them. ``python -m tests.contract.test_real_files
--write`` makes ``docs/real-files.md`` from what comes out.
"""

import csv
import sys
from dataclasses import astuple, dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.encaps import encapsulate, generate_frames

from dicom_io.errors import CorruptPixelsError, DicomInputError, TruncatedPixelsError
from dicom_io.header import read_header
from dicom_io.read import read_volume
from dicom_io.study import Series
from dicom_io.volume import Volume

TABLE = Path(__file__).with_name("real_files.tsv")
PAGE = Path(__file__).parents[2] / "docs" / "real-files.md"
_FOLDERS = {"pydicom": "data", "data_store": "data"}


@dataclass(frozen=True, slots=True)
class Outcome:
    outcome: str
    shape_or_error: str
    spacing: str = ""
    first_voxel: str = ""
    modality: str = ""
    channels: str = ""


def expected_rows() -> list[dict[str, str]]:
    with TABLE.open(newline="", encoding="utf-8") as table:
        return list(csv.DictReader(table, delimiter="\t"))


def files_of(name: str) -> list[Path]:
    package, _, patterns = name.partition("/")
    spec = find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    root = Path(spec.origin).parent / _FOLDERS[package]
    if package == "pydicom" and not (root / patterns).exists():
        root = root / "test_files"
    folder, _, last = patterns.rpartition("/")
    return sorted(path for pattern in last.split() for path in (root / folder).glob(pattern))


def outcome_of(files: list[Path]) -> Outcome:
    try:
        instances = tuple(read_header(path) for path in files)
        volume = read_volume(
            Series(series_instance_uid=instances[0].series_instance_uid, instances=instances)
        )
    except DicomInputError as error:
        return Outcome("refused", type(error).__name__)
    return described(volume)


def described(volume: Volume) -> Outcome:
    spacing, first_voxel = "", ""
    if volume.spacing_mm is not None:
        spacing = " ".join(f"{value:.4f}" for value in volume.spacing_mm)
    elif volume.pixel_spacing_mm is not None:
        spacing = "- " + " ".join(f"{value:.4f}" for value in volume.pixel_spacing_mm)
    if volume.affine is not None:
        first_voxel = " ".join(f"{value:.1f}" for value in volume.affine[:3, 3] + 0.0)
    return Outcome(
        "read",
        " x ".join(str(size) for size in volume.grid_shape),
        spacing,
        first_voxel,
        volume.modality,
        str(volume.voxels.shape[0]),
    )


@pytest.mark.parametrize("row", expected_rows(), ids=lambda row: row["file"])
def test_real_file_comes_out_as_was_written_down(row: dict[str, str]) -> None:
    files = files_of(row["file"])
    assert files, f"{row['file']} is not there: pip install pydicom pydicom-data"

    outcome = outcome_of(files)

    *values, _ = list(row.values())[1:]
    assert outcome == Outcome(*values)


def test_every_image_of_both_packages_is_in_the_table() -> None:
    listed = {path for row in expected_rows() for path in files_of(row["file"])}

    unlisted = [path for path in dicom_files() if path not in listed]

    assert unlisted == []


def dicom_files() -> list[Path]:
    roots = [Path(str(find_spec(package).origin)).parent / sub for package, sub in _FOLDERS.items()]
    return [path for root in roots for path in sorted(root.rglob("*")) if is_dicom(path)]


def is_dicom(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def test_compressed_and_uncompressed_twins_read_the_same() -> None:
    twins = [
        ("pydicom/MR_small.dcm", "pydicom/MR_small_RLE.dcm"),
        ("pydicom/MR_small.dcm", "pydicom/MR_small_jp2klossless.dcm"),
        ("pydicom/MR_small.dcm", "pydicom/MR_small_jpeg_ls_lossless.dcm"),
        ("pydicom/MR_small.dcm", "pydicom/MR_small_bigendian.dcm"),
        ("pydicom/MR_small.dcm", "pydicom/MR_small_implicit.dcm"),
        ("pydicom/MR_small.dcm", "pydicom/MR_small_padded.dcm"),
        ("data_store/693_UNCR.dcm", "data_store/693_J2KR.dcm"),
        ("data_store/MR2_UNCR.dcm", "data_store/MR2_J2KR.dcm"),
        ("data_store/RG1_UNCR.dcm", "data_store/RG1_J2KR.dcm"),
        ("data_store/US1_UNCR.dcm", "data_store/US1_J2KR.dcm"),
        ("data_store/SC_rgb.dcm", "pydicom/SC_rgb_rle.dcm"),
        ("data_store/OBXXXX1A.dcm", "data_store/OBXXXX1A_rle.dcm"),
        ("data_store/OBXXXX1A.dcm", "data_store/OBXXXX1A_expb.dcm"),
        ("data_store/gdcm-US-ALOKA-16.dcm", "data_store/gdcm-US-ALOKA-16_big.dcm"),
        ("data_store/SC_rgb.dcm", "data_store/SC_rgb_expb.dcm"),
        ("data_store/SC_rgb.dcm", "pydicom/SC_rgb_jpeg_gdcm.dcm"),
        ("data_store/SC_rgb_16bit.dcm", "pydicom/SC_rgb_rle_16bit.dcm"),
        ("data_store/SC_rgb_dcmtk_ebcyn2_dcmd.dcm", "pydicom/SC_rgb_dcmtk_+eb+cy+n2.dcm"),
        ("data_store/SC_rgb_dcmtk_ebcyn2_dcmd.dcm", "data_store/SC_ybr_full_uncompressed.dcm"),
        ("data_store/SC_rgb_dcmtk_ebcyn2_dcmd.dcm", "pydicom/SC_ybr_full_422_uncompressed.dcm"),
        ("data_store/color-pl.dcm", "data_store/color-px.dcm"),
    ]
    for one, other in twins:
        volumes = [read_volume(series_of(name)) for name in (one, other)]

        assert np.array_equal(volumes[0].voxels, volumes[1].voxels), (one, other)
        assert volumes[0].window == volumes[1].window


@pytest.mark.parametrize("lost", [1, 60, 400])
@pytest.mark.parametrize(
    "name",
    [
        "pydicom/MR_small_jpeg_ls_lossless.dcm",
        "pydicom/MR_small_jp2klossless.dcm",
        "pydicom/SC_rgb_jpeg_dcmtk.dcm",
        "pydicom/SC_rgb_jpeg_gdcm.dcm",
        "pydicom/JPGExtended.dcm",
    ],
)
def test_compressed_frame_cut_short_is_refused(tmp_path: Path, name: str, lost: int) -> None:
    dataset = dcmread(files_of(name)[0])
    frame = next(generate_frames(dataset.PixelData, number_of_frames=1))
    end = frame.rindex(b"\xff\xd9") + 2
    dataset.PixelData = encapsulate([frame[: end - lost]])
    dataset.save_as(tmp_path / "cut.dcm")
    instance = read_header(tmp_path / "cut.dcm")

    with pytest.raises((TruncatedPixelsError, CorruptPixelsError)):
        read_volume(Series(series_instance_uid="1", instances=(instance,)))


def series_of(name: str) -> Series:
    instances = tuple(read_header(path) for path in files_of(name))
    return Series(series_instance_uid=instances[0].series_instance_uid, instances=instances)


def page() -> str:
    rows = [(row, outcome_of(files_of(row["file"]))) for row in expected_rows()]
    read = sum(outcome.outcome == "read" for _, outcome in rows)
    lines = [
        "# Real files: what is read, what is refused, and why",
        "",
        "Every DICOM file of the packages `pydicom` and `pydicom-data`, none of which was made for",
        "this project, read alone; then some series of theirs. Expectations were written down from",
        "the files' attributes and the standard before the reader ran, in",
        "`tests/contract/real_files.tsv`; where one was mended since, the last column says so.",
        "This page is what came out: `python -m tests.contract.test_real_files --write`.",
        "",
        f"{len(rows)} cases: {read} read, {len(rows) - read} refused by a named error, 0 failures.",
        "",
        "| file | outcome | shape (slice x row x column), or error | spacing, mm | first voxel, "
        "LPS mm | modality | channels | why |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row, out in rows:
        cells = (f"`{row['file']}`", *astuple(out), row["why"])
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def test_page_says_what_comes_out() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), (
        "run python -m tests.contract.test_real_files --write"
    )


if __name__ == "__main__" and "--write" in sys.argv[1:]:
    PAGE.write_text(page(), encoding="utf-8")
