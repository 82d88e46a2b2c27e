"""What ``pellucid analyze`` writes and prints: objects, one JSON, arrays, tables."""

import itertools
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dicom_io.analysis import (
    Analysis,
    Certainty,
    Explanation,
    Familiarity,
    Finding,
    Segment,
)
from dicom_io.encode.reliability_words import certainty_text, reliability_texts
from dicom_io.encode.words import measure_text, method_text, subject_text
from dicom_io.volume import Volume
from node.commands.analyze import Outcome
from node.commands.output import MisuseError, counted, print_table, print_text
from node.commands.preview import write_preview
from node.commands.study_folder import Found

if TYPE_CHECKING:
    from pydicom import Dataset


@contextmanager
def results_folder(folder: Path) -> Iterator[None]:
    """Make the folder for results before the work of the block; if none come of it, unmake it.

    Raises
    ------
    MisuseError
        It cannot be made or written, or holds files that are not ours to overwrite.
    """
    absent = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        _prepare_folder(folder)
        yield
    finally:
        for path in absent:
            with suppress(OSError):
                path.rmdir()  # only an empty one goes


def _prepare_folder(folder: Path) -> None:
    """Make the folder, and see whether it can be written.

    Raises
    ------
    MisuseError
        It cannot be made or written, or holds files that are not ours to overwrite.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".pellucid"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise MisuseError(f"cannot write to {str(folder)!r}: {error.strerror}") from error
    strangers = [path.name for path in folder.iterdir() if not (folder / "analysis.json").exists()]
    if strangers:
        raise MisuseError(
            f"folder {str(folder)!r} holds other files ({strangers[0]}); give a new or empty one"
        )


def write(outcome: Outcome, folder: Path, *, arrays: bool) -> dict[str, Any]:
    """Write objects, ``analysis.json`` and, if asked, arrays; return what the JSON holds."""
    files = write_objects(outcome.objects, folder)
    preview = write_preview(outcome.objects, folder)
    files = (*files, *([preview] if preview else []))
    if arrays:
        files = (*files, *write_arrays(outcome, folder))
    content = as_json(outcome, files)
    text = json.dumps(content, indent=2) + "\n"
    (folder / "analysis.json").write_text(text, encoding="utf-8")
    return content


def print_outcome(outcome: Outcome, found: Found, folder: Path) -> None:
    """Print findings and explanations as tables, and where everything is."""
    volumes = {each.name: each.volume for each in outcome.inputs}
    for analysis in outcome.analyses:
        rows = finding_rows(analysis, volumes[analysis.input_name])
        print_table(f"Findings of {analysis.model.name}", rows, empty="No findings.")
        print_text("\n".join(reliability_texts(analysis)))
        print_table("Explanations", explanation_rows(analysis), empty="No explanations.")
        print_text(analysis.model.notice)
    objects = counted(len(outcome.objects), "DICOM object")
    print_text(f"{objects}, analysis.json and preview.png are in {folder}")
    if found.other or found.refused:
        left_out = (f"{counted(found.other, 'file')} skipped: no DICOM", *found.refused)
        print_text("\n".join(left_out))


def write_objects(objects: "Sequence[Dataset]", folder: Path) -> tuple[Path, ...]:
    """Write every DICOM object, and remove those of an earlier analysis; return the files."""
    for old in folder.glob("*.dcm"):
        old.unlink()
    files = []
    for number, dataset in enumerate(objects, start=1):
        title = str(dataset.get("SeriesDescription", "")) or str(dataset.Modality)
        slug = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")
        file = folder / f"{number:03d}-{str(dataset.Modality).lower()}-{slug}.dcm"
        dataset.save_as(file, enforce_file_format=True)
        files.append(file)
    return tuple(files)


def write_arrays(outcome: Outcome, folder: Path) -> tuple[Path, ...]:
    """Write image, masks and relevance as NIfTI on the grid of the source; return the files."""
    volumes = {each.name: each.volume for each in outcome.inputs}
    files = [
        _write_nifti(volume.voxels, volume, folder / f"image-{_slug(name)}.nii.gz")
        for name, volume in volumes.items()
    ]
    for analysis in outcome.analyses:
        volume = volumes[analysis.input_name]
        for segment in analysis.segments:
            mask = segment.mask[np.newaxis].astype(np.uint8)
            file = folder / f"mask-{_slug(segment.label)}.nii.gz"
            files.append(_write_nifti(mask, volume, file))
        for each in analysis.explanations:
            name = f"relevance-{_slug(subject_text(each))}-{_method_slug(each)}"
            file = _new(folder / name, files)
            files.append(_write_nifti(each.heatmap.relevance, volume, file))
    return tuple(files)


def _new(stem: Path, written: Sequence[Path]) -> Path:
    """Return the file of this name, or with a number behind it if that was written already."""
    names = (f"{stem.name}{'' if n == 1 else f'-{n}'}.nii.gz" for n in itertools.count(1))
    return next(file for name in names if (file := stem.with_name(name)) not in written)


def _method_slug(explanation: Explanation) -> str:
    rule = explanation.parameters.get("rule", "")
    return _slug(f"{explanation.method} {rule}")


def as_json(outcome: Outcome, files: Sequence[Path]) -> dict[str, Any]:
    """Return everything that was found, without pixels and without the patient's data."""
    volumes = {each.name: each.volume for each in outcome.inputs}
    return {
        "analyses": [
            _analysis(analysis, volumes[analysis.input_name]) for analysis in outcome.analyses
        ],
        "files": [file.name for file in files],
    }


def finding_rows(analysis: Analysis, volume: Volume) -> list[dict[str, object]]:
    """Return one row for each finding and segment; which answers are possible, if that is known."""
    assessed = any(finding.certainty is not None for finding in analysis.findings)
    findings: list[dict[str, object]] = [
        {
            "finding": finding.label,
            "probability": f"{finding.probability:.3f}",
            "operating_point": f"{finding.threshold:.3f}",
            "present": finding.present,
            **({"possible": _possible(finding)} if assessed else {}),
            "volume_ml": "",
        }
        for finding in analysis.findings
    ]
    return findings + [
        {
            "finding": segment.label,
            "probability": "",
            "operating_point": "",
            "present": bool(segment.mask.any()),
            **({"possible": ""} if assessed else {}),
            "volume_ml": _volume_text(_volume_ml(segment, volume)),
        }
        for segment in analysis.segments
    ]


def _possible(finding: Finding) -> str:
    return "" if finding.certainty is None else certainty_text(finding.certainty)


def explanation_rows(analysis: Analysis) -> list[dict[str, object]]:
    """Return one row for each explanation; those that could not be made come last."""
    made: list[dict[str, object]] = [
        {
            "explained": subject_text(each),
            "by": method_text(each),
            "verdict": each.verdict or "",
            "measures": "\n".join(measure_text(measure) for measure in each.measures),
            "why": "\n".join((*each.reasons, *each.warnings)),
        }
        for each in analysis.explanations
    ]
    return made + [
        {
            "explained": subject_text(each),
            "by": method_text(each),
            "verdict": "NOT EXPLAINED",
            "measures": "",
            "why": each.reason,
        }
        for each in analysis.failures
    ]


def _write_nifti(array: NDArray[Any], volume: Volume, file: Path) -> Path:
    """Write [channel, slice, row, column] as NIfTI axes slice, row, column(, channel) in RAS mm."""
    import nibabel

    # NIfTI's world is RAS, DICOM's LPS: the first two axes point the other way.
    to_ras = np.diag([-1.0, -1.0, 1.0, 1.0])
    affine = None if volume.affine is None else to_ras @ volume.affine
    spatial = np.moveaxis(array, 0, -1)
    content = spatial[..., 0] if spatial.shape[-1] == 1 else spatial
    image: Any = nibabel.Nifti1Image  # nibabel states no types here
    nibabel.save(image(np.ascontiguousarray(content), affine), file)
    return file


def _analysis(analysis: Analysis, volume: Volume) -> dict[str, Any]:
    card = analysis.model
    return {
        "model": {
            "name": card.name,
            "version": card.version,
            "weights_sha256": card.weights_sha256,
            "notice": card.notice,
        },
        "series_instance_uid": volume.series_instance_uid,
        "findings": [
            {
                "label": finding.label,
                "code": finding.concept.value,
                "scheme": finding.concept.scheme,
                "probability": finding.probability,
                "threshold": finding.threshold,
                "present": finding.present,
                "calibrated": finding.calibrated,
                "certainty": _certainty(finding.certainty),
            }
            for finding in analysis.findings
        ],
        "familiarity": _familiarity(analysis.familiarity),
        "segments": [
            {
                "label": segment.label,
                "code": segment.concept.value,
                "scheme": segment.concept.scheme,
                "voxels": int(segment.mask.sum()),
                "volume_ml": _volume_ml(segment, volume),
            }
            for segment in analysis.segments
        ],
        "explanations": [_explanation(each) for each in analysis.explanations],
        "failed_explanations": [
            {
                "target": each.target,
                "against": each.against,
                "method": each.method,
                "parameters": dict(each.parameters),
                "reason": each.reason,
            }
            for each in analysis.failures
        ],
    }


def _certainty(certainty: Certainty | None) -> dict[str, Any] | None:
    if certainty is None:
        return None
    return {
        "level": certainty.level,
        "present": certainty.present,
        "absent": certainty.absent,
        "is_single": certainty.is_single,
    }


def _familiarity(familiarity: Familiarity | None) -> dict[str, Any] | None:
    if familiarity is None:
        return None
    return {
        "is_familiar": familiarity.is_familiar,
        "distance": _number(familiarity.distance),
        "distance_limit": familiarity.distance_limit,
        "energy": _number(familiarity.energy),
        "energy_limit": familiarity.energy_limit,
    }


def _explanation(explanation: Explanation) -> dict[str, Any]:
    return {
        "target": explanation.target,
        "against": explanation.against,
        "method": explanation.method,
        "parameters": dict(explanation.parameters),
        "layer": explanation.layer,
        "baseline": explanation.baseline,
        "residual": _number(explanation.residual),
        "measures": [
            {
                "name": measure.name,
                "value": _number(measure.value),
                "limit": measure.limit,
                "passed": measure.passed,
                "unit": measure.unit,
            }
            for measure in explanation.measures
        ],
        "verdict": explanation.verdict,
        "reasons": list(explanation.reasons),
        "warnings": list(explanation.warnings),
        "forwards": explanation.cost.forwards,
        "backwards": explanation.cost.backwards,
    }


def _number(value: float | None) -> float | None:
    """Return a value that JSON can hold, or None."""
    return value if value is not None and np.isfinite(value) else None


def _volume_ml(segment: Segment, volume: Volume) -> float | None:
    voxel = volume.voxel_volume_ml
    return None if voxel is None else float(segment.mask.sum() * voxel)


def _volume_text(volume_ml: float | None) -> str:
    if volume_ml is None:
        return ""
    return f"{volume_ml:.1f}" if volume_ml >= 1 else f"{volume_ml:.2g}"


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
