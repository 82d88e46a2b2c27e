"""What the demo tells of explanations, as the stand-in PACS holds them."""

from dicom_io.reported import Report, ReportedExplanation
from node.demo.judge import Judgement, explanation_rows


def judgement_of(**report):
    return Judgement(
        results=(), report=Report(findings=(), segments=(), **report), hits=(), checks=()
    )


def test_an_explanation_that_could_not_be_made_has_a_row_of_its_own():
    made = ReportedExplanation(
        target="lesion", method="Layer CAM", verdict="All checks passed", measures={"Residual": 0.1}
    )
    failed = "lesion by occlusion: NOT EXPLAINED, the budget is too small"

    rows = explanation_rows(judgement_of(explanations=(made,), failures=(failed,)))

    assert [(row["explanation"], row["gate"]) for row in rows] == [
        ("Layer CAM", "All checks passed"),
        (failed, "NOT MADE"),
    ]


def test_without_any_explanation_only_the_reasons_are_told():
    rows = explanation_rows(judgement_of(explanations=(), failures=("no feature map",)))

    assert [row["gate"] for row in rows] == ["NOT MADE"]
