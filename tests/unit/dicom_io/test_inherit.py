"""What every object inherits, and who it says made it."""

from dataclasses import replace

import pytest

from dicom_io.encode.inherit import Place, new_object, writable
from dicom_io.origin import Site
from dicom_io.uids import named_uid
from tests.build_analysis import (
    make_analysis,
    make_card,
    make_failure,
    make_input,
    make_origin,
)

PLACE = Place(
    role="thing",
    series_number=9500,
    modality="OT",
    sop_class_uid="1.2.840.10008.5.1.4.1.1.7",
    description="thing",
)


def made(source=None, origin=None, **analysis):
    source = source or make_input()
    return new_object(PLACE, make_analysis(source, **analysis), source, origin or make_origin())


def test_model_and_weights_are_contributing_equipment():
    node, model = made().ContributingEquipmentSequence

    assert node.DeviceUID == named_uid("a node")
    assert model.ManufacturerModelName == "phantom"
    assert list(model.SoftwareVersions) == ["1.0", "ab" * 32]


def test_node_is_named_as_equipment():
    dataset = made()

    assert dataset.Manufacturer == "Pellucid"
    assert dataset.SoftwareVersions == "0.1.0"
    assert dataset.DeviceSerialNumber == "4711"
    assert dataset.DeviceUID == named_uid("a node")
    assert dataset.InstitutionName == "General Hospital"


def test_missing_serial_number_is_replaced_by_the_device_uid():
    origin = replace(make_origin(), site=Site(device_uid=named_uid("a node")))

    dataset = made(origin=origin)

    assert dataset.DeviceSerialNumber == named_uid("a node")
    assert "InstitutionName" not in dataset


def test_times_are_those_of_the_origin():
    dataset = made()

    assert str(dataset.ContentDate) == "20260304"
    assert str(dataset.InstanceCreationTime) == "050607.089000"


def test_times_are_written_in_the_time_zone_of_the_source():
    source = make_input()
    for header in source.headers:
        header.TimezoneOffsetFromUTC = "-0530"

    dataset = made(source)

    assert str(dataset.ContentDate) == "20260303"
    assert str(dataset.ContentTime) == "233607.089000"
    assert dataset.TimezoneOffsetFromUTC == "-0530"


def test_missing_type_2_attributes_are_empty():
    source = make_input()
    for header in source.headers:
        del header.AccessionNumber, header.PatientBirthDate

    dataset = made(source)

    assert dataset.AccessionNumber == ""
    assert dataset.PatientBirthDate == ""


def test_series_description_is_cut_to_what_the_standard_allows():
    source = make_input()
    place = replace(PLACE, description="x" * 100)

    dataset = new_object(place, make_analysis(source), source, make_origin())

    assert len(dataset.SeriesDescription) == 64


def test_other_weights_are_another_object():
    assert made().SOPInstanceUID != made(model=make_card(weights_sha256="cd" * 32)).SOPInstanceUID


@pytest.mark.parametrize(
    ("character_set", "text", "expected"),
    [
        (None, "Läsion", "Lasion"),
        ("ISO_IR 100", "Läsion", "Läsion"),
        ("ISO_IR 126", "Läsion", "Lasion"),
        ("ISO_IR 126", "βλάβη", "βλάβη"),
        ("ISO_IR 100", "病変", "??"),
        ("ISO_IR 192", "病変", "病変"),
        (["", "ISO 2022 IR 87"], "病変", "病変"),
    ],
)
def test_our_words_fit_the_character_set_of_the_source(character_set, text, expected):
    dataset = made()
    dataset.SpecificCharacterSet = character_set

    assert writable(text, dataset) == expected


def test_identifiers_tell_analyses_apart_that_failed_in_different_explanations():
    one, again, other, differently = (
        made(explanations=(), failures=(failure,))
        for failure in (
            make_failure(),
            make_failure(reason="said otherwise"),
            make_failure(method="occlusion"),
            make_failure(parameters={"channels": "max"}),
        )
    )

    assert one.SOPInstanceUID == again.SOPInstanceUID
    uids = {each.SOPInstanceUID for each in (one, other, differently)}
    assert len(uids) == 3
