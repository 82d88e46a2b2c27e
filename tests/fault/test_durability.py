"""A power cut takes what was not made durable: the order of fsync, rename, row and answer."""

import pytest

from tests.build_ledger import ledger_url
from tests.fault.durability import receive_with_a_journal
from tests.fault.points import Faults

pytestmark = pytest.mark.slow


def test_what_is_acknowledged_survives_a_power_cut(tmp_path):
    (tmp_path / "data").mkdir()

    receive_with_a_journal(tmp_path, ledger_url(tmp_path / "data"), Faults(tmp_path / "faults"))
