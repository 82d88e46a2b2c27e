"""Disk or memory fail at every point of a receiver: senders are told to try again, and may."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from tests.build_ledger import ledger_url
from tests.build_wire import image, receive_settings, sender, store
from tests.build_wire import receiver as receiver_in_a_thread
from tests.descriptors import spoiled
from tests.fault import oracle
from tests.fault.conftest import DATABASES
from tests.fault.points import Act, Faults, all_points
from tests.fault.trials import Receiver, passed_before, require_nothing_lost, require_taken

pytestmark = pytest.mark.slow

#: Its sender has the answer, and waits in vain for the next: that takes its whole time-out.
_ANSWERED = "pellucid.receive.answered"
POINTS = [
    pytest.param(point.name, marks=[pytest.mark.fault] if point.name == _ANSWERED else [])
    for point in all_points()
    if point.of_the_receiver
]
ERRORS = (Act.ENOSPC, Act.EIO, Act.MEMORY)


@pytest.fixture(scope="module", params=DATABASES)
def receiver(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    (folder / "data").mkdir()
    database = (
        request.getfixturevalue("server").new_database()
        if request.param == "postgresql"
        else ledger_url(folder / "data")
    )
    with Receiver(folder, database, Faults(folder / "faults")) as started:
        yield started
        assert started.runs, "it did not outlive the faults"


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("point", POINTS)
def test_error_that_comes_once_costs_at_most_one_more_try(receiver, point, error):
    modality = receiver.new_study()

    receiver.faults.order(point, error, skip=passed_before(point))
    modality.send()

    receiver.until(lambda: receiver.faults.hit)
    oracle.require_honest(modality.statuses)
    require_nothing_lost(receiver, modality)
    oracle.require_nothing_left_over(receiver.data)
    modality.send()
    require_taken(receiver, modality)


@pytest.mark.parametrize(
    "error", [Act.ENOSPC, *(pytest.param(one, marks=pytest.mark.fault) for one in ERRORS[1:])]
)
@pytest.mark.parametrize("point", POINTS)
def test_error_that_lasts_ends_without_restart(receiver, point, error):
    modality = receiver.new_study()

    with receiver.faults.lasting(point, error):
        modality.send()
        modality.send()
        oracle.require_honest(modality.statuses)
        require_nothing_lost(receiver, modality)
        oracle.require_nothing_left_over(receiver.data)

    modality.send()
    oracle.require_honest(modality.statuses)
    require_taken(receiver, modality)


def test_turn_that_cannot_be_had_is_a_temporary_refusal_for_all_that_wait(tmp_path):
    data = tmp_path / "data"
    images = [image(f"1.2.3.4.{number}") for number in range(8)]

    # With two receivers nothing is answered for before it is in the ledger.
    settings = receive_settings(data, receivers=2)
    with receiver_in_a_thread(settings) as port, ThreadPoolExecutor(8) as pool:
        with spoiled(data / "receiving.lock"):
            refused = list(pool.map(partial(stored, port), images))
        taken = list(pool.map(partial(stored, port), images))

    assert refused == [0xA700] * 8
    assert taken == [0x0000] * 8


def stored(port, dataset):
    with sender(port) as association:
        return store(association, dataset)
