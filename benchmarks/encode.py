"""What encoding costs, ours beside plain highdicom, in CPU seconds and as ratios.

python -m benchmarks.encode [--runs 3] [--json FILE]

The source is a CT of 128 slices of 512 x 512, the heatmap painted on every pixel of it. highdicom
is called as its documents say, on bands, shades and pictures that our functions make of the same
heatmap; its pictures have neither letters nor legend, and its report one number. Each number is the
least of some runs, and importing is not part of it.
"""

import argparse
import json
import time
import warnings
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import highdicom as hd
import numpy as np
from highdicom.pm.sop import ParametricMap
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import generate_uid

from dicom_io.analysis import (
    Analysis,
    Cost,
    Explanation,
    Finding,
    Heatmap,
    MeasureValue,
    ModelCard,
    Segment,
    Verdict,
)
from dicom_io.codes import code_for_label
from dicom_io.encode import (
    fractional,
    measurements,
    parametric_map,
    presentation,
    relevance_bands,
    report,
    secondary_capture,
    segmentation,
)
from dicom_io.encode.source_series import Subject, encode_source_series
from dicom_io.inherited import inherited_header
from dicom_io.origin import Origin, Site
from dicom_io.paint import displayed, gray, heated, window_of
from dicom_io.paint import relevance_bands as bands_of
from dicom_io.read import Input
from dicom_io.volume import SourceFrame, Volume

RESULTS = Path(__file__).parent / "results" / "encode.json"
SHAPE = (128, 512, 512)
CREATED = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
#: What issue 5 asks for, in CPU seconds.
LIMITS = {"overlay": 1.5, "report": 0.3, "measurements": 0.3, "segmentation + bands": 1.5}


def made_source() -> Input:
    rng = np.random.default_rng(0)
    voxels = rng.integers(-1000, 1000, SHAPE).astype(np.float32)
    affine = np.diag([1.0, 0.7, 0.7, 1.0])[:, [2, 1, 0, 3]]
    volume = Volume(
        voxels=voxels[None],
        affine=affine,
        frames=(),
        modality="CT",
        series_instance_uid="",
        frame_of_reference_uid=None,
        pixel_spacing_mm=(0.7, 0.7),
        window=(40.0, 400.0),
        body_part="CHEST",
    )
    subject = Subject(patient_name="Bench^Mark", patient_id="B-1", birth_date="", sex="O")
    datasets = encode_source_series(
        volume, subject, seed="bench", created=CREATED, description="CT"
    )
    headers = tuple(inherited_header(dataset) for dataset in datasets)
    frames = tuple(
        SourceFrame(sop_instance_uid=str(h.SOPInstanceUID), sop_class_uid=str(h.SOPClassUID))
        for h in headers
    )
    placed = Volume(
        **{
            name: getattr(volume, name)
            for name in ("voxels", "affine", "modality", "pixel_spacing_mm", "window", "body_part")
        },
        frames=frames,
        series_instance_uid=str(headers[0].SeriesInstanceUID),
        frame_of_reference_uid=str(headers[0].FrameOfReferenceUID),
    )
    return Input(name="image", volume=placed, headers=headers)


def made_analysis() -> Analysis:
    slices, rows, columns = np.ogrid[0 : SHAPE[0], 0 : SHAPE[1], 0 : SHAPE[2]]
    distance = ((columns - 330) / 60) ** 2 + ((rows - 280) / 50) ** 2 + ((slices - 64) / 40) ** 2
    # The haze is above the faintest level that is painted: no pixel is left out.
    relevance = (np.exp(-distance) + 0.12).astype(np.float32)
    lesion = code_for_label("lesion")
    return Analysis(
        model=ModelCard(name="bench", version="1", weights_sha256="ab" * 32),
        input_name="image",
        findings=(Finding(label="lesion", concept=lesion, probability=0.87, threshold=0.5),),
        segments=(Segment(label="lesion", concept=lesion, mask=distance < 0.5),),
        explanations=(
            Explanation(
                target="lesion",
                method="layer_cam",
                heatmap=Heatmap(relevance=relevance[None]),
                measures=(MeasureValue(name="integrity", value=1.0, limit=1.0, passed=True),),
                cost=Cost(forwards=1.0, backwards=1.0),
                verdict=Verdict.PASSED,
            ),
        ),
    )


def made_origin(source: Input) -> Origin:
    return Origin(
        study_instance_uid=str(source.headers[0].StudyInstanceUID),
        input_sop_instance_uids=tuple(f.sop_instance_uid for f in source.volume.frames),
        route="bench",
        config_hash="c0ffee",
        created=CREATED,
        site=Site(device_uid="2.25.1"),
        software_version="1",
    )


def seconds(make: Callable[[], object], runs: int) -> float:
    """Return the least CPU time of some runs; the first, which may import, does not count."""
    make()
    spent = []
    for _ in range(runs):
        start = time.process_time()
        make()
        spent.append(time.process_time() - start)
    return min(spent)


class Plain:
    """The same by highdicom, called as its documents say; holds what its classes are given."""

    def __init__(self, source: Input, analysis: Analysis) -> None:
        self.headers = [_with_defaults(header) for header in source.headers]
        self.mask = analysis.segments[0].mask.astype(np.uint8)
        self.heatmap = analysis.explanations[0].heatmap
        self.voxels = source.volume.voxels[0]
        self.limits = window_of(source.volume.voxels, source.volume.window)
        self.equipment = {
            "manufacturer": "bench",
            "manufacturer_model_name": "bench",
            "software_versions": "1",
            "device_serial_number": "1",
        }

    def _identity(self, number: int) -> dict[str, object]:
        return {
            "series_instance_uid": generate_uid(),
            "series_number": number,
            "sop_instance_uid": generate_uid(),
            "instance_number": 1,
        }

    def _segment(self, number: int) -> hd.seg.SegmentDescription:
        return hd.seg.SegmentDescription(
            segment_number=number,
            segment_label=f"segment {number}",
            segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
            segmented_property_type=codes.SCT.Lesion,
            algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
            algorithm_identification=hd.AlgorithmIdentificationSequence(
                name="bench", version="1", family=codes.DCM.ArtificialIntelligence
            ),
        )

    def _segmentation(self, pixels: np.ndarray, count: int, kind: str = "BINARY") -> object:
        return hd.seg.Segmentation(
            source_images=self.headers,
            pixel_array=pixels,
            segmentation_type=kind,
            segment_descriptions=[self._segment(number) for number in range(1, count + 1)],
            **self._identity(2),
            **self.equipment,
        )

    def segmentation(self) -> object:
        return self._segmentation(self.mask, 1)

    def banded(self) -> object:
        bands = bands_of(self.heatmap)
        return self._segmentation(bands, int(bands.max()))

    def fractional(self) -> object:
        levels = displayed(self.heatmap).levels.astype(np.float32) / 255
        return self._segmentation(levels, 1, "FRACTIONAL")

    def overlay(self) -> object:
        series, levels = generate_uid(), displayed(self.heatmap).levels
        return [
            hd.sc.SCImage.from_ref_dataset(
                ref_dataset=header,
                pixel_array=heated(gray(plane, self.limits), shown),
                photometric_interpretation="RGB",
                bits_allocated=8,
                coordinate_system="PATIENT",
                series_instance_uid=series,
                series_number=3,
                sop_instance_uid=generate_uid(),
                instance_number=number,
                manufacturer="bench",
                pixel_spacing=(0.7, 0.7),
                patient_orientation=("L", "P"),
            )
            for number, (header, plane, shown) in enumerate(
                zip(self.headers, self.voxels, levels, strict=True), 1
            )
        ]

    def parametric_map(self) -> object:
        mapping = hd.pm.RealWorldValueMapping(
            lut_label="RELEVANCE",
            lut_explanation="relevance",
            unit=codes.UCUM.NoUnits,
            value_range=(0.0, 2.0),
        )
        return ParametricMap(
            source_images=self.headers,
            pixel_array=self.heatmap.relevance[0],
            contains_recognizable_visual_features=False,
            real_world_value_mappings=[mapping],
            voi_lut_transformations=[hd.VOILUTTransformation(window_center=1, window_width=2)],
            **self._identity(4),
            **self.equipment,
        )

    def report(self) -> object:
        key = self.headers[64]
        group = hd.sr.MeasurementsAndQualitativeEvaluations(
            tracking_identifier=hd.sr.TrackingIdentifier(uid=generate_uid(), identifier="1"),
            finding_type=codes.SCT.Lesion,
            measurements=[
                hd.sr.Measurement(name=codes.DCM.Probability, value=0.87, unit=codes.UCUM.NoUnits)
            ],
        )
        content = hd.sr.MeasurementReport(
            observation_context=hd.sr.ObservationContext(
                observer_device_context=hd.sr.ObserverContext(
                    observer_type=codes.DCM.Device,
                    observer_identifying_attributes=hd.sr.DeviceObserverIdentifyingAttributes(
                        uid="2.25.1"
                    ),
                )
            ),
            procedure_reported=codes.SCT.ImagingProcedure,
            imaging_measurements=[group],
            title=codes.DCM.ImagingMeasurementReport,
        )
        return hd.sr.EnhancedSR(
            evidence=[key], content=content[0], manufacturer="bench", **self._identity(5)
        )


def _with_defaults(header: Dataset) -> Dataset:
    copy = Dataset()
    copy.update(header)
    copy.file_meta = header.file_meta
    copy.PatientBirthDate = copy.PatientBirthDate or None
    return copy


def compared(runs: int) -> dict[str, object]:
    source, analysis = made_source(), made_analysis()
    origin = made_origin(source)

    def ours(encoder: Callable[..., tuple[Dataset, ...]]) -> Callable[[], object]:
        return lambda: encoder(analysis, source, origin, ())

    plain = Plain(source, analysis)
    pairs: dict[str, tuple[Callable[[], object], Callable[[], object] | None]] = {
        "segmentation": (ours(segmentation.encode), plain.segmentation),
        "bands": (ours(relevance_bands.encode), plain.banded),
        "fractional": (ours(fractional.encode), plain.fractional),
        "overlay": (ours(secondary_capture.encode), plain.overlay),
        "overlay_rle": (ours(secondary_capture.encode_rle), None),
        "parametric_map": (ours(parametric_map.encode), plain.parametric_map),
        "parametric_map_coarse": (ours(parametric_map.encode_coarse), None),
        "presentation": (ours(presentation.encode), None),
        "measurements": (ours(measurements.encode), plain.report),
        "report": (ours(report.encode), plain.report),
    }
    rows: dict[str, dict[str, float | None]] = {}
    for name, (own, theirs) in pairs.items():
        mine = seconds(own, runs)
        other = None if theirs is None else seconds(theirs, runs)
        rows[name] = {
            "seconds": round(mine, 3),
            "highdicom_seconds": None if other is None else round(other, 3),
            "ratio": None if other is None else round(mine / other, 2),
        }
        print(name, rows[name], flush=True)
    spent = {name: row["seconds"] or 0.0 for name, row in rows.items()}
    spent["segmentation + bands"] = spent["segmentation"] + spent["bands"]
    return {
        "slices_rows_columns": SHAPE,
        "highdicom": hd.__version__,
        "objects": rows,
        "limits": {
            name: {"seconds": round(spent[name], 3), "limit": limit, "met": spent[name] <= limit}
            for name, limit in LIMITS.items()
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.encode", description=__doc__)
    parser.add_argument("--runs", type=int, default=3, help="how many (%(default)s)")
    parser.add_argument("--json", type=Path, default=RESULTS, help="file (%(default)s)")
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    figures = compared(asked.runs)
    print(json.dumps(figures["limits"], indent=2))
    asked.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
