from dataclasses import replace
from pathlib import Path

import pytest

from dicom_io.errors import AmbiguousSelectionError, NonConformantError
from dicom_io.select import ANY_IMAGE, Selector, matching_series, select_series
from dicom_io.study import Instance, group_studies

CT = "1.2.840.10008.5.1.4.1.1.2"
DX = "1.2.840.10008.5.1.4.1.1.1.1"
SR = "1.2.840.10008.5.1.4.1.1.88.22"


def instance(number, series="1.1", sop_class=CT, **tags):
    return Instance(
        study_instance_uid="1",
        series_instance_uid=series,
        sop_instance_uid=f"{series}.{number}",
        sop_class_uid=sop_class,
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        path=Path("absent.dcm"),
        patient_id="P",
        tags=tags,
    )


def study_of(*instances):
    (study,) = group_studies(instances)
    return study


def chosen(study, **conditions):
    series = select_series(study, Selector(name="it", conditions=conditions))
    return None if series is None else [i.sop_instance_uid for i in series.instances]


def test_selector_without_conditions_takes_the_image_series():
    study = study_of(instance(1), instance(1, series="1.2", sop_class=SR))

    series = select_series(study, ANY_IMAGE)

    assert series is not None
    assert series.series_instance_uid == "1.1"


def test_text_is_a_full_match_in_upper_or_lower_case():
    study = study_of(instance(1, SeriesDescription="Head T1 mprage"))

    assert chosen(study, SeriesDescription=".*t1.*")
    assert not chosen(study, SeriesDescription="t1")


def test_any_of_several_texts():
    study = study_of(instance(1, Modality="MR"))

    assert chosen(study, Modality=["CT", "MR"])
    assert not chosen(study, Modality=["CT", "PT"])


def test_one_of_several_values_is_enough():
    study = study_of(instance(1, ImageType="ORIGINAL\\PRIMARY\\AXIAL"))

    assert chosen(study, ImageType="AXIAL")


def test_numbers_lie_within_a_range_ends_included():
    study = study_of(instance(1, SliceThickness="2.0"))

    assert chosen(study, SliceThickness=[0.5, 2.0])
    assert not chosen(study, SliceThickness=[2.1, 5])


def test_every_value_of_a_range_counts():
    study = study_of(instance(1, PixelSpacing="0.5\\3"))

    assert not chosen(study, PixelSpacing=[0.1, 1.0])


def test_text_in_a_numeric_range_does_not_match():
    assert not chosen(study_of(instance(1, SliceThickness="thin")), SliceThickness=[0, 9])


def test_absent_attribute_meets_no_condition_but_is_not_excluded():
    study = study_of(instance(1))

    assert not chosen(study, SliceThickness=[0, 9])
    assert not chosen(study, SeriesDescription=".*")
    assert chosen(study, SeriesDescription="!LOC.*")


def test_localizers_are_dropped_from_a_series():
    study = study_of(
        instance(1, ImageType="ORIGINAL\\PRIMARY\\LOCALIZER"),
        instance(2, ImageType="ORIGINAL\\PRIMARY\\AXIAL"),
        instance(3, ImageType="ORIGINAL\\PRIMARY\\AXIAL"),
    )

    assert chosen(study, ImageType=["!LOCALIZER"]) == ["1.1.2", "1.1.3"]


def test_stack_that_meets_a_condition_in_part_is_not_selected():
    study = study_of(instance(1, SliceThickness="1"), instance(2, SliceThickness="5"))

    assert chosen(study, SliceThickness=[0.5, 2]) is None


def test_radiographs_are_selected_one_by_one():
    study = study_of(
        instance(1, sop_class=DX, ViewPosition="PA"),
        instance(2, sop_class=DX, ViewPosition="LL"),
    )

    assert chosen(study, ViewPosition="PA") == ["1.1.1"]


def test_several_matching_series_are_not_chosen_from():
    study = study_of(instance(1), instance(1, series="1.2"))
    selector = Selector(name="head", conditions={})

    with pytest.raises(AmbiguousSelectionError, match=r"'head' takes 2 series.*1\.1 \(1\), 1\.2"):
        select_series(study, selector)
    assert len(matching_series(study, selector)) == 2


@pytest.mark.parametrize(
    ("keyword", "condition", "problem"),
    [
        ("Modalty", "MR", "not a keyword"),
        ("Modality", "M(R", "no regular expression"),
        ("SliceThickness", [2, 1], "empty"),
        ("SliceThickness", [1, 2, 3], "two numbers"),
        ("SliceThickness", [1, "thin"], "not both"),
    ],
)
def test_unsound_condition_is_refused(keyword, condition, problem):
    with pytest.raises(ValueError, match=problem):
        Selector(name="x", conditions={keyword: condition})


def damaged(instance):
    return replace(instance, nonconformance="a value is longer than its parent at byte 4711")


def test_a_series_with_an_image_that_does_not_conform_is_refused_by_name():
    study = study_of(instance(1), damaged(instance(2)), instance(3))

    with pytest.raises(NonConformantError, match=r"1 of 3 images are damaged.* at byte 4711"):
        select_series(study, ANY_IMAGE)


def test_an_image_that_does_not_conform_costs_no_other_series():
    study = study_of(
        instance(1, SeriesDescription="T1"),
        damaged(instance(1, series="1.2", SeriesDescription="T2")),
    )

    assert chosen(study, SeriesDescription="T1") == ["1.1.1"]


def test_one_of_several_series_that_does_not_conform_is_named_before_their_number():
    study = study_of(instance(1), damaged(instance(1, series="1.2")))

    with pytest.raises(NonConformantError, match=r"series 1\.2: 1 of 1"):
        select_series(study, ANY_IMAGE)


@pytest.mark.parametrize("sop_class", [CT, DX])
def test_what_cannot_be_read_of_an_image_counts_as_what_is_asked_for(sop_class):
    whole = instance(1, sop_class=sop_class, Rows="512")
    study = study_of(whole, damaged(instance(2, sop_class=sop_class)))

    (series,) = matching_series(study, Selector(name="it", conditions={"Rows": [512, 512]}))

    assert len(series.instances) == 2


def test_what_can_be_read_of_an_image_that_does_not_conform_decides_as_ever():
    whole = instance(1, ImageType="ORIGINAL\\PRIMARY")
    study = study_of(whole, damaged(instance(2, ImageType="ORIGINAL\\LOCALIZER")))

    assert chosen(study, ImageType=["!LOCALIZER"]) == ["1.1.1"]
