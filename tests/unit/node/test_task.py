"""The table of a task's life."""

from node.task import TRANSITIONS, Priority, State

ENDS = {State.DONE, State.REJECTED, State.CANCELLED}


def test_every_state_but_ready_is_reached_from_another():
    reached = {after for _, after in TRANSITIONS}

    assert reached == set(State)


def test_nothing_leads_out_of_an_end():
    assert not [change for change in TRANSITIONS if change[0] in ENDS]


def test_work_ends_only_from_running():
    results = {State.DONE, State.REJECTED, State.PARKED, State.FAILED, State.QUARANTINED}

    assert {before for before, after in TRANSITIONS if after in results} == {State.RUNNING}


def test_stat_goes_before_routine():
    assert Priority.STAT < Priority.URGENT < Priority.ROUTINE < Priority.OFF_PEAK
