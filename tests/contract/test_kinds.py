"""The table of SOP classes says of every encoder what the encoder says of itself."""

import importlib
from importlib import metadata

import pytest
from pydicom.uid import UID

from dicom_io.encode.kinds import KINDS, NOTES, sop_classes

OURS = {
    entry.name: entry.module
    for entry in metadata.entry_points(group="pellucid.encoders")
    if entry.module.startswith("dicom_io.")
}


@pytest.mark.parametrize("name", sorted(OURS))
def test_encoder_makes_what_the_table_says(name):
    module = importlib.import_module(OURS[name])

    assert KINDS[name] == module.SOP_CLASS_UIDS


def test_every_sop_class_is_one_of_the_standard():
    names = {uid: UID(uid).name for uid in sop_classes()}

    assert not [uid for uid, name in names.items() if name == uid]


def test_notes_are_no_results_that_a_route_could_ask_for():
    assert not set(NOTES) & set(OURS)
