"""The report says how far a diagnosis can be trusted, in words and in coded numbers."""

import subprocess
from dataclasses import replace

import pytest

from dicom_io.analysis import Certainty, Familiarity
from dicom_io.encode import report
from dicom_io.encode.overlay_legend import overlay_legend
from dicom_io.encode.reliability_words import DO_NOT_RELY
from dicom_io.errors import EncodingError
from tests.build_analysis import (
    make_analysis,
    make_explanation,
    make_failure,
    make_finding,
    make_input,
    make_origin,
)
from tests.peers import require
from tests.unit.dicom_io.test_report import items, name_of, values

FAMILIAR = Familiarity(distance=3.2, distance_limit=6.5, energy=-2.0, energy_limit=-0.7)
STRANGE = replace(FAMILIAR, distance=41.0)


def certain(*, present=True, absent=False, probability=0.87):
    return replace(
        make_finding(probability),
        calibrated=True,
        certainty=Certainty(level=0.9, present=present, absent=absent),
    )


def written(**changes):
    source = make_input()
    given = {"segments": (), "findings": (certain(),), "familiarity": FAMILIAR}
    analysis = make_analysis(source, **(given | changes))
    (dataset,) = report.encode(analysis, source, make_origin(), ())
    return dataset


def strange():
    return written(familiarity=STRANGE, explanations=(), failures=(make_failure(),))


@pytest.mark.parametrize(
    ("present", "absent", "words", "code"),
    [
        (True, False, "one answer possible at the 90 % level: present", "Present alone"),
        (False, True, "one answer possible at the 90 % level: not present", "Not present alone"),
        (True, True, "BOTH ANSWERS POSSIBLE at the 90 % level", "Both: present and not present"),
        (False, False, "NO CERTAIN ANSWER at the 90 % level",
         "Neither is as probable as right answers are"),
    ],
)  # fmt: skip
def test_which_answers_remain_stands_in_words_and_in_codes(present, absent, words, code):
    dataset = written(findings=(certain(present=present, absent=absent),))

    assert words in values(dataset, "Conclusion")[0]
    assert values(dataset, "Possible answers at this level") == [code]
    assert values(dataset, "Level of the possible answers") == [90.0]


def test_a_calibrated_probability_is_called_so():
    dataset = written()

    assert "calibrated probability 87.0 %" in values(dataset, "Conclusion")[0]
    assert values(dataset, "Calibration of the probability") == [
        "Calibrated on cases of known diagnosis"
    ]


def test_a_familiar_image_is_called_so_with_its_numbers():
    dataset = written()

    assert values(dataset, "Reliability of the result")[0] == (
        "The image is like those that the model was validated on (distance 3.2, at most 6.5 is "
        "familiar; energy -2, at most -0.7 is familiar)."
    )
    assert values(dataset, "Likeness to the images of the validation") == [
        "Like the images of the validation"
    ]
    numbers = {
        name_of(item): float(item.MeasuredValueSequence[0].NumericValue)
        for item in items(dataset)
        if item.get("ValueType") == "NUM"
    }
    assert numbers["Mahalanobis distance of the features"] == 3.2
    assert numbers["Largest familiar distance"] == 6.5
    assert numbers["Energy of the logits"] == -2.0
    assert numbers["Largest familiar energy"] == -0.7


def test_the_first_words_about_a_strange_image_are_not_to_rely_on_it():
    dataset = strange()

    assert values(dataset, "Conclusion")[0] == DO_NOT_RELY
    assert values(dataset, "Reliability of the result")[0].startswith(f"{DO_NOT_RELY} (distance 41")
    assert dataset.SeriesDescription.startswith("AI report: NOT RELIABLE, strange image: synthetic")
    assert values(dataset, "Likeness to the images of the validation") == [
        "Unlike the images of the validation"
    ]
    # The finding stays.
    assert values(dataset, "Probability") == [87.0]


def test_a_strange_image_in_which_nothing_is_found_is_no_all_clear():
    dataset = written(
        findings=(certain(present=False, absent=True, probability=0.1),),
        familiarity=STRANGE,
        explanations=(),
    )

    assert values(dataset, "Conclusion")[0].startswith(DO_NOT_RELY)
    assert "nothing found" in dataset.SeriesDescription
    assert "NOT RELIABLE" in dataset.SeriesDescription


def test_a_model_to_which_nothing_was_fitted_says_so_and_codes_nothing():
    dataset = written(findings=(make_finding(),), familiarity=None)

    (said,) = values(dataset, "Reliability of the result")
    assert said.startswith("Not assessed: nothing was fitted to this model")
    assert "calibrated" not in values(dataset, "Conclusion")[0]
    assert values(dataset, "Possible answers at this level") == []
    assert values(dataset, "Likeness to the images of the validation") == []


def test_without_findings_nothing_is_said_of_their_reliability():
    assert values(written(findings=(), familiarity=None), "Reliability of the result") == []


def test_a_distance_is_never_rounded_to_its_limit():
    near = replace(FAMILIAR, distance=6.50004)

    said = values(written(familiarity=near), "Reliability of the result")[0]

    assert "distance 6.50004, at most 6.5 is familiar" in said


def test_a_distance_that_is_no_number_is_never_written():
    with pytest.raises(EncodingError, match="Mahalanobis distance of the features: no finite"):
        written(familiarity=replace(FAMILIAR, distance=float("nan")))


@pytest.mark.parametrize(("absent", "alert"), [(False, False), (True, True)])
def test_the_legend_says_whether_one_answer_remains(absent, alert):
    source = make_input()
    analysis = make_analysis(source, findings=(certain(absent=absent),))

    legend = overlay_legend(analysis, make_explanation(source), None, (), origin=make_origin())

    lines = {line.text: line.style for line in legend.head}
    assert "PRESENT" in lines
    assert "calibrated probability 87.0 % (cut-off 50.0 %)" in lines
    (style,) = (style for text, style in lines.items() if "at the 90 % level" in text)
    assert ("alert" in style.name.lower()) is alert


@pytest.mark.peers
@pytest.mark.parametrize("make", [written, strange])
def test_an_independent_validator_finds_no_error(make, tmp_path):
    validator = require("/usr/bin/dciodvfy", "install Debian's dicom3tools")
    make().save_as(tmp_path / "report.dcm", enforce_file_format=True)

    ran = subprocess.run(
        [validator, tmp_path / "report.dcm"], capture_output=True, text=True, check=False
    )

    lines = (ran.stdout + ran.stderr).splitlines()
    assert lines
    assert [line for line in lines if line.startswith("Error")] == []
