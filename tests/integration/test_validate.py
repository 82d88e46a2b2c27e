"""``pellucid validate`` from DICOM files to a card, on a bundle small enough to ask it all."""

import json
import re
import shutil
import tomllib
from dataclasses import replace

import numpy as np
import pytest
import torch
from pydicom import dcmread

from ai.card.examples import ranked_cases
from ai.card.journal import read_journal
from ai.explainers.cam import LayerCAM
from ai.prepare import to_source_grid
from ai.quality.faithfulness import comprehensiveness
from ai.quality.localization import relevance_mass_accuracy
from ai.reliability.store import load_reliability
from ai.targets import ClassLogit
from dicom_io.uids import named_uid
from node.commands.models import add_model
from node.commands.output import FindingError, MisuseError
from node.commands.validate import model_settings, require_all_used, validate
from node.config import ExplainSpec, embedded_config
from node.config_folder import load_config
from node.plugins import load_model
from tests.build_cards import (
    LABEL,
    bright_classifier,
    cube,
    wanted,
    write_case,
    write_known_cases,
)

CASES = 24
FILES = {"card.html", "card.json", "card.toml", "cases.jsonl", "bright.reliability.npz", "examples"}


@pytest.fixture(scope="module")
def validated(tmp_path_factory):
    """A folder with known cases, a bundle and its card; the card itself."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("validated")
    write_known_cases(folder, CASES)
    model = bright_classifier(folder / "bundle")
    asked = wanted(folder, model, explainers=("layer_cam,lrp",), curve_cases=4, randomized_cases=1)
    return folder, asked, validate(asked)


def few_cases(tmp_path, count=4):
    """Return what is asked of a few cases, the model's bundle among them."""
    write_known_cases(tmp_path, count)
    return wanted(tmp_path, bright_classifier(tmp_path / "bundle"), quick=True)


def test_the_card_chooses_what_beats_the_controls_and_leaves_all_its_files(validated):
    folder, _, card = validated

    chosen = card.figures("layer_cam").measures["mass"]
    controls = [each.measures["mass"] for each in card.explainers if each.is_control]

    assert {path.name for path in (folder / "card").iterdir()} == FILES
    assert card.choice.name == "layer_cam"
    assert card.choice.by == "mass"
    assert len(controls) == 3
    assert all(chosen.is_above(control) for control in controls)
    assert (card.data.cases, card.data.read, card.data.placed) == (CASES, CASES, CASES // 2)


def test_figures_of_a_case_are_those_of_a_direct_computation(validated):
    folder, asked, _ = validated
    records = read_journal(folder / "card" / "cases.jsonl").values()
    source = write_case(folder / "again", 0, bright=True)
    model = load_model(asked.model)

    prepared = model.prepare(source.volume)
    found = LayerCAM().explain(model.network, prepared.tensor, ClassLogit(1))
    relevance = to_source_grid(found.values[0], prepared)[0]
    value = comprehensiveness(model.network, prepared.tensor, ClassLogit(1), found.values)

    uid = source.volume.series_instance_uid
    (record,) = [each for each in records if each.case == uid]
    measures = record.map_of("layer_cam").measures
    assert measures["mass"] == pytest.approx(relevance_mass_accuracy(relevance, cube()))
    assert measures["comprehensiveness"] == pytest.approx(value, abs=1e-5)
    assert record.logits == pytest.approx(model.network(prepared.tensor)[0].tolist(), abs=1e-5)
    assert record.truth == {LABEL: True}


def test_controls_come_out_as_controls(validated):
    _, _, card = validated
    share = cube().mean()

    random, sobel, intensity = (card.figures(each) for each in ("random", "sobel", "intensity"))

    assert random.measures["mass"].low <= share <= random.measures["mass"].high
    assert abs(random.measures["comprehensiveness"].estimate) < 0.2
    assert sobel.measures["edges"].estimate == pytest.approx(1.0)
    assert intensity.measures["intensity"].estimate == pytest.approx(1.0)


def test_the_page_needs_nothing_beside_it_and_says_what_was_chosen(validated):
    folder, _, card = validated

    page = (folder / "card" / "card.html").read_text(encoding="utf-8")

    assert "Explain this model by LayerCAM" in page
    assert page.count("<svg") >= 6
    assert page.count("data:image/png;base64,") == 3
    assert re.findall(r'(?:href|src)="(?!#|data:image/png)|@import|<script|url\((?!#)', page) == []
    assert all(reason in page for reason in card.choice.reasons)


def test_nothing_that_was_written_names_a_patient(validated):
    folder, _, _ = validated
    header = dcmread(next((folder / "data").rglob("*.dcm")), stop_before_pixels=True)
    known = {str(header.PatientName), str(header.PatientID), str(header.PatientBirthDate)}

    texts = [path.read_bytes() for path in (folder / "card").iterdir() if path.is_file()]

    assert len(known) == 3
    assert not any(word.encode() in text for word in known for text in texts)


def test_the_document_holds_the_curves_and_what_could_not_be_measured(validated):
    folder, _, card = validated

    document = json.loads((folder / "card" / "card.json").read_text(encoding="utf-8"))

    first = document["explainers"][0]
    assert first["insertion"]["mean"][0] == pytest.approx(0.0, abs=1e-9)
    assert first["insertion"]["mean"][-1] == pytest.approx(1.0)
    assert len(first["randomization"]["similarity"]) == 3
    assert document["unmeasured"] == list(card.unmeasured)
    assert document["model"]["weights_sha256"] == card.model.weights_sha256


def test_examples_are_the_best_the_middle_and_the_worst_by_rank(validated):
    folder, _, _ = validated
    records = tuple(read_journal(folder / "card" / "cases.jsonl").values())

    ranked = ranked_cases(records, "layer_cam")
    values = sorted(
        record.map_of("layer_cam").measures["mass"] for record in records if record.is_placed
    )

    assert [role for role, *_ in ranked] == ["best", "median", "worst"]
    assert [value for *_, value in ranked] == [values[-1], values[-1 - len(values) // 2], values[0]]


def test_a_second_run_reads_no_case_again(validated, monkeypatch):
    folder, asked, first = validated
    before = (folder / "card" / "cases.jsonl").read_bytes()
    document = json.loads((folder / "card" / "card.json").read_text())

    again = validate(asked)

    assert (folder / "card" / "cases.jsonl").read_bytes() == before
    assert again.explainers == first.explainers
    repeated = json.loads((folder / "card" / "card.json").read_text())
    assert {**repeated, "provenance": None} == {**document, "provenance": None}


def test_a_run_goes_on_after_a_line_that_was_cut_off(validated, tmp_path):
    folder, asked, first = validated
    shutil.copytree(folder / "card", tmp_path / "card")
    journal = tmp_path / "card" / "cases.jsonl"
    journal.write_bytes(journal.read_bytes()[:-200])

    again = validate(replace(asked, out=tmp_path / "card"))

    assert len(read_journal(journal)) == CASES
    assert again.choice == first.choice


def test_other_settings_read_the_cases_anew(validated, tmp_path):
    folder, asked, _ = validated
    shutil.copytree(folder / "card", tmp_path / "card")

    validate(replace(asked, out=tmp_path / "card", quick=True, explainers=("layer_cam",)))

    assert len(read_journal(tmp_path / "card" / "cases.jsonl")) == 2 * CASES


def test_what_the_card_proposes_becomes_the_models_file(validated, tmp_path):
    folder, _, card = validated
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "routes.toml").write_text(
        '[[route]]\nname = "head"\nmodel = "bright"\nselect = [{ name = "t1", Modality = "MR" }]\n'
    )

    add_model(
        folder / "bundle", tmp_path / "config", name="bright", trusted=True, card=folder / "card"
    )
    config = load_config(tmp_path / "config", {})

    settings, figures = config.models["bright"], card.figures("layer_cam")
    proposed = tomllib.loads((folder / "card" / "card.toml").read_text())["model"]
    layers = (figures.layer,)
    explain = ExplainSpec(method="layer_cam", parameters={"layers": layers})
    assert config.routes[0].steps[0].explain == (explain,)
    assert settings.gate == proposed["gate"]
    assert settings.reliability.file.parent == tmp_path / "config" / "models"
    assert load_model(settings).reliability.cases == CASES


def test_what_is_fitted_is_of_the_models_weights(validated):
    folder, _, card = validated

    found = load_reliability(
        folder / "card" / "bright.reliability.npz", weights_sha256=card.model.weights_sha256
    )

    assert found.cases == CASES
    assert found.channels == 2


def test_a_card_of_other_weights_is_not_taken_over(validated, tmp_path):
    folder, _, _ = validated
    shutil.copytree(folder / "bundle", tmp_path / "other")
    weights = torch.load(tmp_path / "other" / "models" / "model.pt")
    weights["4.bias"] += 1
    torch.save(weights, tmp_path / "other" / "models" / "model.pt")

    with pytest.raises(MisuseError, match="which no file of the bundle has"):
        add_model(
            tmp_path / "other", tmp_path / "config", name="other", trusted=True,
            card=folder / "card",
        )  # fmt: skip


def test_a_case_that_cannot_be_read_is_left_out_and_told(tmp_path):
    asked = few_cases(tmp_path)
    (broken,) = (tmp_path / "data" / "case-1").glob("0003.dcm")
    broken.write_bytes(broken.read_bytes()[:-100])

    card = validate(asked)

    assert (card.data.cases, card.data.read) == (4, 3)
    assert (tmp_path / "card" / "card.html").exists()
    with pytest.raises(FindingError, match="1 of 4 cases could not be used"):
        require_all_used(card)


def test_a_case_whose_truth_is_another_patients_is_left_out(tmp_path):
    asked = few_cases(tmp_path)
    path = tmp_path / "truth" / "case-0.dcm"
    dataset = dcmread(path)
    dataset.PatientID = "SOMEBODY ELSE"
    dataset.save_as(path)

    card = validate(asked)

    (why,) = card.data.failures.values()
    assert "another patient" in why
    assert card.data.placed == 1


def test_a_truth_of_no_case_is_told(tmp_path):
    asked = few_cases(tmp_path)
    path = tmp_path / "truth" / "case-0.dcm"
    dataset = dcmread(path)
    dataset.StudyInstanceUID = named_uid("another study")
    dataset.ReferencedSeriesSequence[0].SeriesInstanceUID = named_uid("another series")
    for each in dataset.ReferencedSeriesSequence[0].ReferencedInstanceSequence:
        each.ReferencedSOPInstanceUID = named_uid(f"another {each.ReferencedSOPInstanceUID}")
    dataset.save_as(path)

    card = validate(asked)

    assert card.data.unmatched == ("case-0.dcm",)
    assert card.data.failures == {}


def test_without_any_truth_the_card_says_what_it_cannot_tell(tmp_path):
    asked = replace(few_cases(tmp_path), truth=None)

    card = validate(asked)

    assert any(each.startswith("ROC curve of bright") for each in card.unmeasured)
    assert any(each.startswith("Localization: no case") for each in card.unmeasured)
    assert not card.choice.beats_controls


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    asked = few_cases(tmp_path, count=1)
    asked.out.mkdir()
    (asked.out / "thesis.doc").write_text("years of work")

    with pytest.raises(MisuseError, match="holds other files"):
        validate(asked)


def test_a_bundle_that_is_not_trusted_is_not_run(tmp_path):
    bright_classifier(tmp_path / "bundle")

    with pytest.raises(MisuseError, match="--trust"):
        model_settings(str(tmp_path / "bundle"), embedded_config(tmp_path), trusted=False)


def test_the_random_map_is_at_chance_whatever_the_seed(tmp_path):
    asked = few_cases(tmp_path, count=8)

    masses = [
        validate(replace(asked, seed=seed, out=tmp_path / f"card-{seed}"))
        .figures("random")
        .measures["mass"]
        .estimate
        for seed in (0, 1)
    ]

    assert masses[0] != masses[1]
    assert np.allclose(masses, cube().mean(), rtol=0.15)
