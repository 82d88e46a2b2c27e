"""A document that viewers could not show, or would show in the wrong place, does not leave."""

import copy

import pytest
from pydicom import Dataset

from dicom_io.check import check_object
from dicom_io.check_documents import content_items
from dicom_io.check_source import check_against_source
from dicom_io.encode import measurements, report, report_basic
from tests.build_analysis import make_analysis, make_enhanced_input, make_input, make_origin

ENCODERS = {"measurements": measurements, "report": report, "basic": report_basic}


def document(kind, source):
    (dataset,) = ENCODERS[kind].encode(make_analysis(source), source, make_origin(), ())
    return dataset


def add_number(dataset):
    """A number as another document has it."""
    numbers = content_items(document("report", make_input()))
    dataset.ContentSequence.append(next(item for item in numbers if item.ValueType == "NUM"))


def run_together(dataset):
    dataset.ContinuityOfContent = "CONTINUOUS"


def first(dataset, value_type):
    return next(item for item in content_items(dataset) if item.ValueType == value_type)


def group_without_region(dataset):
    group = next(
        item
        for item in content_items(dataset)
        if item.ConceptNameCodeSequence[0].CodeValue == "125007"
    )
    group.ContentSequence = [i for i in group.ContentSequence if i.ValueType != "SCOORD"]


def no_groups(dataset):
    dataset.ContentSequence = [
        item
        for item in dataset.ContentSequence
        if item.ConceptNameCodeSequence[0].CodeValue != "126010"
    ]


@pytest.mark.parametrize("kind", ENCODERS)
def test_sound_documents_pass(kind):
    source = make_enhanced_input()

    dataset = document(kind, source)

    assert check_object(dataset) == ()
    assert check_against_source(dataset, source) == ()


@pytest.mark.parametrize(
    ("kind", "change", "said"),
    [
        ("basic", add_number, "type NUM in a document that knows none"),
        ("report", run_together, "a container is not separate"),
        ("measurements", group_without_region, "group 1 has 0 regions, expected 1"),
        ("measurements", no_groups, "the measurement report has no group"),
    ],
)
def test_each_rule_catches_its_mistake(kind, change, said):
    dataset = document(kind, make_input())

    change(dataset)

    assert any(said in problem for problem in check_object(dataset))


def beyond(region):
    region.GraphicData = [0.0, 0.0, 49.0, 0.0, 0.0, 0.0]


def before(region):
    region.GraphicData = [-1.0, 0.0, 4.0, 0.0, -1.0, 0.0]


def elsewhere(region):
    region.ContentSequence[0].ReferencedSOPSequence[0].ReferencedFrameNumber = 7


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (beyond, "reaches beyond its image of 40 rows and 48 columns"),
        (before, "reaches beyond its image"),
        (elsewhere, "a frame that is not in the source"),
    ],
)
def test_a_region_off_its_image_is_caught(change, said):
    source = make_enhanced_input()
    dataset = copy.deepcopy(document("measurements", source))

    change(first(dataset, "SCOORD"))

    assert any(said in problem for problem in check_against_source(dataset, source))


def test_other_objects_have_no_content_to_check():
    assert list(content_items(Dataset())) == []
