"""Derived UIDs: same task, same identifiers; another task, others."""

from dataclasses import replace
from datetime import timedelta

import pytest
from pydicom.uid import UID

from dicom_io.uids import derived_uid, named_uid
from tests.build_analysis import make_origin


def test_same_origin_role_and_index_give_the_same_valid_uid():
    uid = derived_uid(make_origin(), "report", 1)

    assert uid == derived_uid(make_origin(), "report", 1)
    assert UID(uid).is_valid
    assert uid.startswith("2.25.")
    assert len(uid) <= 64


@pytest.mark.parametrize(
    "change",
    [
        {"study_instance_uid": "1.2.4"},
        {"input_sop_instance_uids": ("1.2.3.5",)},
        {"generation": 2},
        {"route": "another"},
        {"config_hash": "decaf"},
    ],
)
def test_whatever_names_the_task_changes_the_uid(change):
    origin = make_origin()

    assert derived_uid(replace(origin, **change), "report") != derived_uid(origin, "report")


def test_role_and_index_change_the_uid():
    origin = make_origin()

    uids = {derived_uid(origin, role, index) for role in ("a", "b") for index in (0, 1)}

    assert len(uids) == 4


def test_time_contact_and_order_of_inputs_do_not_change_the_uid():
    origin = make_origin(inputs=("1.2.3.4.1", "1.2.3.4.2"))
    later = replace(
        origin,
        created=origin.created + timedelta(days=3),
        contact="someone else",
        input_sop_instance_uids=("1.2.3.4.2", "1.2.3.4.1"),
    )

    assert derived_uid(later, "report") == derived_uid(origin, "report")


def test_named_uid_belongs_to_the_name():
    assert named_uid("node") == named_uid("node")
    assert named_uid("node") != named_uid("other")
