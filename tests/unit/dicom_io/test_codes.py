"""Every concept is well formed, and what is written with a standard's scheme is the standard's."""

import json
from pathlib import Path

import pytest
from pydicom.sr import _concepts_dict

import dicom_io.codes
from dicom_io.codes import (
    LONGEST_MEANING,
    LONGEST_VALUE,
    PRIVATE_SCHEME,
    Code,
    code_for_label,
    measure_code,
    method_code,
    method_name,
    private_code,
    segment_category,
)

TABLE = [value for value in vars(dicom_io.codes).values() if isinstance(value, Code)] + [
    code
    for group in ("_TISSUES", "_SUBSTANCES", "_ANATOMY", "_ABNORMALITIES")
    for code in getattr(dicom_io.codes, group)
]


def meanings_in_the_standard(code):
    concepts = _concepts_dict.concepts[code.scheme]
    return {entry[code.value][0].lower() for entry in concepts.values() if code.value in entry}


@pytest.mark.parametrize("code", [c for c in TABLE if c.scheme in {"DCM", "SCT"}], ids=str)
def test_standard_codes_mean_what_the_standard_says(code):
    assert code.meaning.lower() in meanings_in_the_standard(code)


@pytest.mark.parametrize("code", TABLE, ids=str)
def test_codes_fit_their_value_representations(code):
    assert 0 < len(code.value) <= LONGEST_VALUE
    assert 0 < len(code.meaning) <= LONGEST_MEANING


def test_private_code_values_are_distinct():
    private = {code for code in TABLE if code.scheme == PRIVATE_SCHEME}

    assert len({code.value for code in private}) == len(private)


@pytest.mark.parametrize(
    ("label", "value"),
    [
        ("White matter", "389080008"),
        ("gray-matter", "389081007"),
        ("Grey  Matter", "389081007"),
        ("Cerebral-White-Matter", "68523003"),
        ("Cerebellum-Cortex", "25991003"),
        ("Inferior-Lateral-Ventricle", "53118009"),
        ("3rd-Ventricle", "49841001"),
        ("Brain-Stem", "119238007"),
        ("BRAINSTEM", "119238007"),
        ("Accumbens-area", "427667007"),
        ("VentralDC", "110700"),
        ("tumour", "108369006"),
        ("synthetic lesion", "SYNTHETIC-LESION"),
    ],
)
def test_common_labels_find_their_concept(label, value):
    assert code_for_label(label).value == value


def test_every_structure_of_a_published_brain_bundle_has_a_standard_code():
    metadata = Path(__file__).parents[3] / "../shared/data/brain_meshnet18/configs/metadata.json"
    if not metadata.is_file():
        pytest.skip("brain_meshnet18 is not here: put it into ../shared/data")
    output = json.loads(metadata.read_text())["network_data_format"]["outputs"]["pred"]
    labels = [label for channel, label in output["channel_def"].items() if channel != "0"]

    codes = [code_for_label(label) for label in labels]

    assert PRIVATE_SCHEME not in {code.scheme for code in codes}
    assert len(set(codes)) == len(labels)


def test_unknown_label_always_gets_the_same_private_code():
    first = code_for_label("Left anterior descending artery, proximal third")
    second = code_for_label("Left anterior descending artery, proximal third")

    assert first == second
    assert first.scheme == PRIVATE_SCHEME
    assert len(first.value) <= LONGEST_VALUE


def test_long_labels_with_the_same_beginning_get_different_private_codes():
    first = private_code("Left anterior descending artery, proximal third")
    second = private_code("Left anterior descending artery, distal third")

    assert first.value != second.value


@pytest.mark.parametrize(
    ("one", "other"),
    [("HER2+", "HER2-"), ("IDH +", "IDH -"), ("grade <3", "grade 3"), ("a/b", "a b")],
)
def test_a_sign_makes_another_private_code(one, other):
    assert private_code(one).value != private_code(other).value


@pytest.mark.parametrize(
    "label", ["nodule-", "- nodule", "Nodule -", "no-nodule", "nodule+", "!mass"]
)
def test_a_label_with_a_sign_is_not_the_structure_of_that_name(label):
    assert code_for_label(label).scheme == PRIVATE_SCHEME


def test_label_in_another_script_gets_an_ascii_code_value():
    code = private_code("病変")

    assert code.value.isascii()
    assert code.value
    assert code.meaning == "病変"


def test_measures_and_methods_are_coded():
    assert measure_code("comprehensiveness").scheme == PRIVATE_SCHEME
    assert measure_code("comprehensiveness") != measure_code("comprehensiveness_top")
    assert method_code("layer_cam").value == "130403"
    assert method_code("occlusion").scheme == PRIVATE_SCHEME
    assert method_code("a_new_method").meaning == "a_new_method"


@pytest.mark.parametrize(
    ("method", "rule", "called"),
    [
        ("layer_cam", "", "LayerCAM"),
        ("lrp", "gamma", "LRP-gamma"),
        ("lrp", "attn", "AttnLRP"),
        ("lrp", "of_tomorrow", "LRP (of_tomorrow)"),
        ("a_new_method", "", "a_new_method"),
        ("a_new_method", "its rule", "a_new_method (its rule)"),
    ],
)
def test_a_method_is_called_as_people_call_it_and_never_without_its_rule(method, rule, called):
    assert method_name(method, rule) == called


def test_segment_categories_follow_the_concept():
    assert segment_category(code_for_label("white matter")).meaning == "Tissue"
    assert segment_category(code_for_label("thalamus")).meaning == "Anatomical Structure"
    assert segment_category(code_for_label("lesion")).value == "49755003"
    assert segment_category(private_code("something")).value == "309825002"
