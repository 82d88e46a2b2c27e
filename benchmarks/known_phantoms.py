"""Phantoms as a hospital would hold known cases: DICOM series, and their truth as SEG and table.

python -m benchmarks.known_phantoms FOLDER [--first 700000] [--count 80]
"""

import argparse
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from ai.phantom.make import make_phantom
from dicom_io.analysis import Analysis, ModelCard, Segment
from dicom_io.codes import SYNTHETIC_LESION
from dicom_io.encode import segmentation
from dicom_io.encode.source_series import Subject, encode_source_series
from dicom_io.header import read_header
from dicom_io.origin import Origin, Site
from dicom_io.read import Input, read_input
from dicom_io.study import Series
from dicom_io.truth.folder import TABLE
from dicom_io.uids import named_uid
from dicom_io.volume import Volume

CREATED = datetime(2026, 1, 1, tzinfo=UTC)
LABEL = "Synthetic lesion"
#: None of them was seen by training (from 1 000 000 on) or by `make bench-phantom`.
FIRST = 700_000


def write_known_phantoms(folder: Path, seeds: range) -> None:
    """Write ``data/`` and ``truth/`` of some phantoms; those that are there stay."""
    (folder / "truth").mkdir(parents=True, exist_ok=True)
    lines = []
    for seed in track(seeds, "phantoms"):
        name = f"phantom-{seed}"
        known = folder / "data" / name
        if not known.exists():
            _write(seed, known, folder / "truth" / f"{name}.dcm")
        lines.append(f"{name},{LABEL},{int((folder / 'truth' / f'{name}.dcm').exists())}\n")
    table = folder / "truth" / TABLE
    table.write_text("case,label,there\n" + "".join(lines), encoding="utf-8")


def _write(seed: int, data: Path, truth: Path) -> None:
    phantom = make_phantom(seed)
    source = write_series(phantom.volume, data, f"known phantom {seed}")
    if phantom.has_lesion:
        write_segmentation(phantom.truth, source, truth)


def write_series(volume: Volume, folder: Path, seed: str) -> Input:
    """Write a volume as a study of its own patient, and return it as it is read back."""
    subject = Subject(patient_name="PHANTOM^KNOWN", patient_id=seed, sex="O")
    part = folder.with_name(folder.name + ".part")
    part.mkdir(parents=True, exist_ok=True)
    for dataset in encode_source_series(
        volume, subject, seed=seed, created=CREATED, description="T1 phantom"
    ):
        dataset.save_as(part / f"{dataset.InstanceNumber:04d}.dcm", enforce_file_format=True)
    part.rename(folder)
    instances = tuple(read_header(path) for path in sorted(folder.iterdir()))
    uid = instances[0].series_instance_uid
    return read_input(Series(series_instance_uid=uid, instances=instances), "image")


def write_segmentation(mask: NDArray[np.bool_], source: Input, path: Path) -> None:
    """Write a mask as the SEG that a person would have drawn on a series."""
    analysis = Analysis(
        model=ModelCard(name="truth", version="1", weights_sha256="0" * 64),
        input_name="image",
        segments=(Segment(label=LABEL, concept=SYNTHETIC_LESION, mask=mask),),
    )
    origin = Origin(
        study_instance_uid=str(source.headers[0].StudyInstanceUID),
        input_sop_instance_uids=tuple(str(each.SOPInstanceUID) for each in source.headers),
        route="truth",
        config_hash="",
        created=CREATED,
        site=Site(device_uid=named_uid("truth")),
        software_version="1",
    )
    (dataset,) = segmentation.encode(analysis, source, origin, ())
    dataset.save_as(path, enforce_file_format=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.known_phantoms")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--first", type=int, default=FIRST, help="first seed (%(default)s)")
    parser.add_argument("--count", type=int, default=80, help="how many (%(default)s)")
    asked = parser.parse_args()
    write_known_phantoms(asked.folder, range(asked.first, asked.first + asked.count))


if __name__ == "__main__":
    main()
