"""What the card proposes, as the tables of a model's file that ``models add --card`` takes."""

import hashlib
import json
from pathlib import Path

from ai.card.diagnosis import known_cases
from ai.card.records import CaseRecord
from ai.card.summary import Card
from ai.errors import CalibrationError, MeasureError
from ai.model import Model
from ai.reliability.assessment import Reliability, fit_reliability
from ai.reliability.store import save_reliability


def fitted(records: tuple[CaseRecord, ...], model: Model) -> tuple[Reliability | None, str]:
    """Return what can be fitted to a classifier's answers, or why nothing can."""
    answered = [record for record in records if record.logits]
    if not answered:
        return None, ""
    try:
        cases = known_cases(answered, list(model.labels))
        if not cases.features.shape[1]:
            return (
                None,
                "Strangeness: the network has no features to read; no reliability is fitted.",
            )
        found = fit_reliability(cases, weights_sha256=model.card.weights_sha256)
    except (CalibrationError, MeasureError) as error:
        return None, f"Reliability: {error}; none is fitted."
    return found, ""


def write_snippet(card: Card, reliability: Reliability | None, folder: Path) -> Path:
    """Write ``card.toml`` and, where there is one, the reliability beside it; return the former."""
    name = f"{card.model.name}.reliability.npz"
    digest = ""
    if reliability is not None:
        save_reliability(reliability, folder / name)
        digest = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    path = folder / "card.toml"
    tables = [
        *_explainer(card),
        *_gate(card),
        *_operating_point(card, reliability),
        *_reliability(name, digest),
    ]
    head = [
        f"# Written by `pellucid validate` on {card.provenance.created[:10]} for the model",
        f"# {card.model.name} with the weights {card.model.weights_sha256}.",
        "# Proposals: read card.html first. `pellucid models add DIR --card FOLDER` takes them.",
    ]
    path.write_text("\n".join([*head, *tables]) + "\n", encoding="utf-8")
    return path


def _explainer(card: Card) -> list[str]:
    chosen = card.chosen
    if chosen is None:
        return ["", "# No explainer is proposed:", *(f"# {each}" for each in card.choice.reasons)]
    parameters = dict(chosen.parameters)
    figures = card.figures(chosen.name)
    if figures is not None and figures.layer and hasattr(chosen.explainer, "layers"):
        parameters.setdefault("layers", figures.layer.split(", "))
    return [
        "",
        "# What explains this model where a route names no explainer.",
        *(f"# {each}" for each in card.choice.reasons),
        "[model.explainer]",
        f"method = {json.dumps(chosen.method)}",
        *(f"{key} = {json.dumps(value)}" for key, value in parameters.items()),
    ]


def _gate(card: Card) -> list[str]:
    gate = card.gate
    if not gate.limits:
        return ["", f"# {gate.unmeasured}"]
    stopped = ", ".join(f"{n} {share:.0%}" for n, share in (gate.controls_stopped or {}).items())
    return [
        "",
        f"# {gate.good_passed:.0%} of {gate.good} good maps pass; of the controls are stopped: "
        f"{stopped}.",
        "# Drawn from the maps of the explainer above: another one needs limits of its own.",
        "[model.gate]",
        *(f"{each.measure} = {each.limit:g}" for each in gate.limits),
    ]


def _operating_point(card: Card, reliability: Reliability | None) -> list[str]:
    if not card.is_classifier:
        return []
    known = [
        f"# {each.label}: sensitivity {each.sensitivity.estimate:.2f}, specificity "
        f"{each.specificity.estimate:.2f} at the threshold {each.threshold:g}."
        for each in card.diagnosis.labels
    ]
    scaled = "# No temperature: the reliability below scales the logits; the above is from before."
    fitted = [scaled] if reliability else []
    threshold = f"threshold = {card.threshold:g}"
    return ["", "[model.operating_point]", *known, threshold, *fitted]


def _reliability(name: str, digest: str) -> list[str]:
    if not digest:
        return []
    return ["", "[model.reliability]", f"file = {json.dumps(name)}", f'sha256 = "{digest}"']
