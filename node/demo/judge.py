"""Whether the demo did what it promises, judged by what the stand-in PACS holds and the truth."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ai.phantom.make import Phantom
from ai.quality.localization import relevance_mass_accuracy
from dicom_io.reported import Report
from dicom_io.results import Bands, StoredResult, list_results, read_bands, read_reports
from node.demo.play import Played

#: Mass in the truth must be this many times what relevance spread over the brain would have.
_LEAST_MASS_GAIN = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One promise of the demo, and whether it was kept."""

    name: str
    kept: bool
    #: What was seen, with its number.
    seen: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """How one explainer's bands lie to the planted lesion."""

    description: str
    #: Whether the center of the strongest band lies in the lesion.
    points_at_lesion: bool
    #: Share of the banded relevance that lies in the lesion.
    mass_in_lesion: float
    #: The same for relevance spread evenly over the brain.
    chance: float

    @property
    def hits(self) -> bool:
        """Whether a radiologist would be led to the lesion."""
        return self.points_at_lesion and self.mass_in_lesion >= _LEAST_MASS_GAIN * self.chance


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """All that the demo shows, and whether every promise was kept."""

    results: tuple[StoredResult, ...]
    report: Report | None
    hits: tuple[Hit, ...]
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Whether every promise was kept."""
        return all(check.kept for check in self.checks)


def judge(played: Played, phantom: Phantom, *, explainers: int) -> Judgement:
    """Read back what the PACS holds and hold it against the truth.

    Parameters
    ----------
    explainers
        How many heatmaps there should be.
    """
    results = list_results(played.pacs)
    reports = read_reports(results)
    bands = [
        read_bands(each.path)
        for each in results
        if "evidence" in each.series_description and each.modality == "SEG"
    ]
    report = reports[0] if len(reports) == 1 else None
    hits = tuple(_hit(each, phantom) for each in bands)
    checks = (
        _all_arrived(played.delivered, results),
        _all_sound(results),
        _found(report, len(reports)),
        _hit_enough(hits, explainers),
    )
    return Judgement(results=results, report=report, hits=hits, checks=checks)


def object_rows(results: Sequence[StoredResult]) -> list[dict[str, object]]:
    """Return one row for each series that the PACS holds."""
    series: dict[str, list[StoredResult]] = {}
    for result in results:
        series.setdefault(result.series_instance_uid, []).append(result)
    return [
        {
            "series": members[0].series_description,
            "SOP class": members[0].sop_class,
            "objects": len(members),
            "size": f"{sum(each.size_bytes for each in members) / 1024:.0f} KiB",
            "check": "ok" if not any(each.problems for each in members) else "PROBLEMS",
        }
        for members in series.values()
    ]


def finding_rows(report: Report) -> list[dict[str, object]]:
    """Return one row for each finding of the report."""
    return [
        {"finding": each.meaning, "probability": f"{each.probability:.1%}", "present": each.present}
        for each in report.findings
    ]


def explanation_rows(judgement: Judgement) -> list[dict[str, object]]:
    """Return one row for each explanation: its own measures, and the planted truth's.

    Those that could not be made come last, with the reason.
    """
    if judgement.report is None:
        return []
    made: list[dict[str, object]] = [
        {
            "explanation": each.method,
            "gate": each.grade or each.verdict,
            "measures": "\n".join(f"{name}: {value:.3g}" for name, value in each.measures.items()),
            "against the truth": _against_truth(each.method, judgement.hits),
        }
        for each in judgement.report.explanations
    ]
    return made + [
        {"explanation": failure, "gate": "NOT MADE", "measures": "", "against the truth": ""}
        for failure in judgement.report.failures
    ]


def stage_rows(seconds: Mapping[str, float]) -> list[dict[str, object]]:
    """Return one row for each stage and its time."""
    return [{"stage": name, "seconds": f"{value:.1f}"} for name, value in seconds.items()]


def _against_truth(method: str, hits: Sequence[Hit]) -> str:
    for hit in hits:
        if method in hit.description:
            return (
                f"points at the lesion: {'yes' if hit.points_at_lesion else 'no'}\n"
                f"relevance in the lesion: {hit.mass_in_lesion:.0%} (even spread: {hit.chance:.1%})"
            )
    return "no bands"


def _hit(bands: Bands, phantom: Phantom) -> Hit:
    relevance = _on_grid(bands, phantom)
    truth = phantom.truth
    center = np.rint(np.argwhere(relevance == relevance.max()).mean(axis=0)).astype(int)
    brain = phantom.volume.voxels[0] > 0
    return Hit(
        description=bands.description,
        points_at_lesion=bool(truth[tuple(center)]),
        mass_in_lesion=relevance_mass_accuracy(relevance, truth) if truth.any() else 0.0,
        chance=float((truth & brain).sum() / brain.sum()),
    )


def _on_grid(bands: Bands, phantom: Phantom) -> NDArray[np.float32]:
    """Return the bands' relevance on the phantom's grid; both have the same voxels in space."""
    relevance = np.zeros(phantom.truth.shape, dtype=np.float32)
    if phantom.volume.affine is None:
        return relevance
    where = np.argwhere(bands.relevance > 0)
    to_phantom = np.linalg.inv(phantom.volume.affine) @ bands.affine
    index = np.rint(where @ to_phantom[:3, :3].T + to_phantom[:3, 3]).astype(int)
    inside = ((index >= 0) & (index < relevance.shape)).all(axis=1)
    relevance[tuple(index[inside].T)] = bands.relevance[tuple(where[inside].T)]
    return relevance


def _all_arrived(delivered: Sequence[str], results: Sequence[StoredResult]) -> Check:
    missing = set(delivered) - {each.sop_instance_uid for each in results}
    seen = f"{len(results)} of {len(delivered)} delivered objects are in the PACS"
    if missing:
        seen += f"; missing {sorted(missing)[0]}"
    return Check(name="every object arrived", kept=not missing and bool(results), seen=seen)


def _all_sound(results: Sequence[StoredResult]) -> Check:
    problems = [f"{each.sop_class}: {problem}" for each in results for problem in each.problems]
    seen = problems[0] if problems else f"{len(results)} objects without a problem"
    return Check(name="every object passes its check", kept=not problems, seen=seen)


def _found(report: Report | None, reports: int) -> Check:
    name = "the lesion was found"
    if report is None:
        return Check(name=name, kept=False, seen=f"{reports} reports in the PACS, expected 1")
    seen = ", ".join(f"{each.meaning} {each.probability:.1%}" for each in report.findings)
    kept = any(each.present for each in report.findings)
    return Check(name=name, kept=kept, seen=seen or "no finding in the report")


def _hit_enough(hits: Sequence[Hit], explainers: int) -> Check:
    seen = "; ".join(
        f"{each.description}: {each.mass_in_lesion:.0%} in the lesion" for each in hits
    )
    return Check(
        name="every heatmap hits the lesion",
        kept=len(hits) == explainers and all(each.hits for each in hits),
        seen=seen or "no heatmap in the PACS",
    )
