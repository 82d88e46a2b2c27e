"""The report is read in three seconds: conclusion first, tables aligned, provenance at the end."""

from datetime import date

from dicom_io.analysis import MeasureValue, PriorComparison, PriorValue, Quantity
from tests.build_analysis import make_explanation, make_finding, make_input
from tests.unit.dicom_io.test_report import items, name_of, values, written


def test_the_conclusion_is_the_first_item_and_nothing_is_there_that_viewers_cannot_print():
    dataset, _ = written(make_input())

    assert name_of(dataset.ContentSequence[0]) == "Conclusion"
    assert dataset.ContentSequence[0].TextValue == (
        "synthetic lesion: PRESENT, probability 87.0 % (cut-off 50.0 %)"
    )
    containers = [item for item in items(dataset) if item.ValueType == "CONTAINER"]
    assert {item.ContinuityOfContent for item in [dataset, *containers]} == {"SEPARATE"}
    assert "IMAGE" not in {item.ValueType for item in items(dataset)}


def test_it_says_on_which_image_to_look():
    source = make_input()

    dataset, _ = written(source)

    assert values(dataset, "Where to look") == [
        "synthetic lesion: series 3, image 4 (L 3.8, A 10.8, H 49.0 mm)",
        "lesion: series 3, image 3 (L 3.8, A 10.8, H 46.0 mm)",
    ]


def test_tables_are_aligned_in_the_item_that_viewers_print_in_monospaced_type():
    findings = (make_finding(0.87), make_finding(0.031, "cyst"))

    dataset, _ = written(make_input(), findings=findings)

    table = next(t for t in values(dataset, "Finding") if t.startswith("Finding  "))
    assert table.split("\r\n") == [
        "Finding           Answer       Probability  Cut-off",
        "synthetic lesion  PRESENT      87.0 %       50.0 %",
        "cyst              not present  3.1 %        50.0 %",
    ]


def test_the_table_says_on_which_side_of_its_limit_a_measure_has_to_be():
    source = make_input()
    measures = (
        MeasureValue(name="stability", value=0.95, limit=0.7, passed=True),
        MeasureValue(name="edges", value=0.1, limit=0.8, passed=True),
        MeasureValue(name="intensity", value=0.85, limit=0.8, passed=False),
        MeasureValue(name="comprehensiveness", value=0.1, limit=0.2, passed=False),
        MeasureValue(name="agreement", value=0.4),
    )

    dataset, _ = written(source, explanations=(make_explanation(source, measures=measures),))

    table = next(t for t in values(dataset, "Finding") if "Measure" in t)
    assert table.split("\r\n")[1:] == [
        "Measure            Value  Limit",
        "stability          0.95   at least 0.7  passed",
        "edges              0.1    at most 0.8   passed",
        "intensity          0.85   at most 0.8   FAILED",
        "comprehensiveness  0.1    at least 0.2  FAILED",
        "agreement          0.4                  reported only",
    ]


def test_provenance_names_all_that_made_the_result():
    dataset, _ = written(make_input())

    said = {name: values(dataset, name) for name in (
        "AI model", "Version of the model", "sha256 of the model's weights", "Version of the node",
        "Route", "sha256 of the configuration", "Explainer and its parameters",
    )}  # fmt: skip
    assert list(said.values()) == [
        ["phantom"],
        ["1.0"],
        ["ab" * 32],
        ["0.1.0"],
        ["head"],
        ["c0ffee"],
        [
            "synthetic lesion by LayerCAM: method=layer_cam; channels=sum; "
            "layer=features.denseblock3"
        ],
    ]


def test_the_prior_is_told_in_words_in_a_table_and_in_codes():
    prior = PriorComparison(
        study_instance_uid="1.2.9",
        study_date=date(2025, 1, 2),
        values=(
            PriorValue(label="lesion", quantity=Quantity.VOLUME, then=0.4, now=0.6),
            PriorValue(label="cyst", quantity=Quantity.PROBABILITY, then=0.1, now=0.07),
        ),
        note="read from its AI report by the same model",
    )

    dataset, _ = written(make_input(), prior=prior)

    assert values(dataset, "Comparison with the prior")[0] == (
        "Study of 2025-01-02 (read from its AI report by the same model)"
    )
    (table,) = (t for t in values(dataset, "Finding") if "Then" in t)
    assert "lesion  volume       0.4 ml  0.6 ml  +0.2 ml (+50%)" in table
    assert "cyst    probability  10.0 %  7.0 %   -3.0 points" in table
    assert values(dataset, "In the prior") == [0.4, 10.0]
    assert values(dataset, "Now") == [0.6, 7.0]


def test_a_prior_that_is_missing_is_said():
    prior = PriorComparison(note="the PACS has no earlier CT")

    dataset, _ = written(make_input(), prior=prior)

    assert values(dataset, "Comparison with the prior") == [
        "There is nothing to compare with (the PACS has no earlier CT)"
    ]
