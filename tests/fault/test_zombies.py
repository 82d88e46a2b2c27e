"""A worker that stood still finds its task another's: one result, and it is the other's."""

import pytest

from tests.fault import zombies
from tests.fault.conftest import DATABASES
from tests.fault.points import Faults

pytestmark = [
    pytest.mark.slow,
    pytest.mark.fault,
    pytest.mark.parametrize("database", DATABASES, indirect=True),
]
SECONDS = 120.0


def test_worker_that_wakes_while_another_works_is_dropped(tmp_path, database):
    zombies.wake_while_another_works(tmp_path, database, Faults(tmp_path / "faults"), SECONDS)


def test_worker_that_wakes_when_all_is_delivered_is_dropped(tmp_path, database):
    zombies.wake_after_another_has_ended(tmp_path, database, Faults(tmp_path / "faults"), SECONDS)
