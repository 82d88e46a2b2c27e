"""A power cut takes what was not made durable: the order of fsync, rename, row and answer."""

import pytest

from tests.fault.conftest import DATABASES
from tests.fault.durability import receive_with_a_journal
from tests.fault.points import Faults

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("database", DATABASES, indirect=True)
def test_what_is_acknowledged_survives_a_power_cut(tmp_path, database):
    receive_with_a_journal(tmp_path, database, Faults(tmp_path / "faults"))
