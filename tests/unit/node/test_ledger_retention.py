"""What the ledger lets go: only what owes nothing, and every row stays."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select, update

from node.ledger import (
    confirmations,
    files,
    instances,
    outbox,
    retention,
    schema,
    status,
    studies,
    tasks,
)
from node.ledger import untold as untold_tasks
from node.ledger.engine import reading
from node.ledger.instances import Added
from node.profiles import FALLBACKS
from node.task import (
    ConfirmationKind,
    ConfirmationState,
    DeliveryState,
    NewDelivery,
    PlannedTask,
    State,
    StudyState,
)
from tests.build_ledger import LONG_AGO, is_ours, new_ledger
from tests.unit.node.test_ledger_instances import STUDY, make_instance, receive

LATER = LONG_AGO + timedelta(days=8)


@pytest.fixture
def engine(ledger):
    return ledger


def at(seconds):
    return LONG_AGO + timedelta(seconds=seconds)


def complete(engine, *routes, study=STUDY, seconds=1):
    planned = [PlannedTask(route=route, config_hash="ab") for route in routes]
    return studies.complete(engine, study, planned, now=at(seconds))


def report(uid="2.25.1", *, to="pacs", path=None, result="report"):
    return NewDelivery(
        destination=to,
        result=result,
        series_instance_uid="1.2.3.9",
        sop_class_uid="1.2.840.10008.5.1.4.1.1.88.22",
        sop_instance_uid=uid,
        path=path or Path("/data/made") / uid,
    )


def done(engine, *owed):
    held = tasks.claim(engine, "w", at(2))
    assert tasks.finish(engine, held, owed, at(3))
    return held


def deliver(engine, held, *, confirm=()):
    for each in outbox.of_task(engine, held.id):
        outbox.delivered(engine, each, 0x0000, at(4), confirm=confirm)


def going(engine, before=LATER):
    return [each.study_instance_uid for each in retention.settled(engine, before=before, limit=99)]


def expire(engine, study=STUDY, *, before=LATER, header=None):
    return retention.expire(
        engine, study, before=before, header=header, reason="age", now=LATER + timedelta(days=1)
    )


def test_a_study_that_no_route_wants_may_go_once_it_is_whole(engine):
    receive(engine, make_instance())
    receiving = going(engine)
    complete(engine)

    assert (receiving, going(engine)) == ([], [STUDY])


def test_a_study_of_which_something_has_just_come_stays_even_if_it_is_a_duplicate(engine):
    receive(engine, make_instance())
    complete(engine)
    receive(engine, make_instance(), seconds=3600)

    assert going(engine, before=at(3599)) == []
    assert expire(engine, before=at(3599)) == ()
    assert going(engine, before=at(3600)) == [STUDY]


def test_work_that_is_not_done_keeps_a_study(engine):
    receive(engine, make_instance())
    complete(engine, "head")
    ready = going(engine)
    held = tasks.claim(engine, "w", at(2))
    running = going(engine)

    tasks.finish(engine, held, [report(to=None)], at(3))

    assert (ready, running, going(engine)) == ([], [], [STUDY])


@pytest.mark.parametrize("state", [State.PARKED, State.FAILED, State.QUARANTINED])
def test_a_task_that_waits_for_a_person_keeps_its_study(engine, state):
    receive(engine, make_instance())
    complete(engine, "head")
    held = tasks.claim(engine, "w", at(2))
    tasks.give_up(engine, held, state=state, error="e", now=at(3))
    untold_tasks.told(engine, tasks.find(engine, held.id), [], at(4))

    assert going(engine) == []
    assert expire(engine) == ()


def test_a_rejected_task_keeps_its_study_until_its_destinations_were_told(engine):
    receive(engine, make_instance())
    complete(engine, "head")
    held = tasks.claim(engine, "w", at(2))
    tasks.give_up(engine, held, state=State.REJECTED, error="e", now=at(3))
    untold = going(engine)
    untold_tasks.told(engine, tasks.find(engine, held.id), [report()], at(4))
    owed = going(engine)
    deliver(engine, held)

    assert (untold, owed, going(engine)) == ([], [], [STUDY])


def test_what_is_not_delivered_keeps_its_study(engine):
    receive(engine, make_instance())
    complete(engine, "head")
    held = done(engine, report())
    (owed,) = outbox.of_task(engine, held.id)
    waiting = going(engine)
    outbox.park(engine, owed, status=None, reason="r", now=at(4))
    parked = going(engine)
    outbox.release(engine, owed.id, at(5))
    outbox.refuse(engine, owed, status=0x0122, reason="r", now=at(6))

    assert (waiting, parked, going(engine)) == ([], [], [])


def test_what_is_refused_owes_nothing_once_what_stands_in_for_it_is_there(engine):
    receive(engine, make_instance())
    complete(engine, "head")
    held = done(engine, report(), report("2.25.2", to=None, result="report_basic"))
    (refused,) = outbox.of_task(engine, held.id)
    outbox.refuse(engine, refused, status=None, reason="r", now=at(4), instead=FALLBACKS)
    waiting = going(engine), complaints(engine)
    _, basic = outbox.of_task(engine, held.id)
    outbox.park(engine, basic, status=None, reason="r", now=at(5))
    parked = going(engine), complaints(engine)
    outbox.release(engine, basic.id, at(6))
    outbox.delivered(engine, basic, 0x0000, at(7), confirm=[ConfirmationKind.READBACK])
    unconfirmed = going(engine)
    (asked,) = confirmations.due(engine, "pacs", ConfirmationKind.READBACK, at(8))
    confirmations.confirm(engine, asked, at(8))

    assert waiting == ([], [str(refused.id)])
    assert parked == ([], [str(basic.id), str(refused.id)])
    assert unconfirmed == []
    assert (going(engine), complaints(engine)) == ([STUDY], [])


@pytest.mark.parametrize(
    ("result", "to"),
    [("key_objects", "pacs"), ("report_basic", "archive")],
    ids=["says something else", "another destination"],
)
def test_what_is_refused_keeps_its_study_whatever_else_was_delivered(engine, result, to):
    receive(engine, make_instance())
    complete(engine, "head")
    held = done(engine, report(), report("2.25.2", to=to, result=result))
    refused, other = outbox.of_task(engine, held.id)
    outbox.refuse(engine, refused, status=0x0122, reason="r", now=at(4), instead=FALLBACKS)
    outbox.delivered(engine, other, 0x0000, at(5))

    assert (going(engine), complaints(engine)) == ([], [str(refused.id)])


def complaints(engine):
    return [each.id for each in status.summary(engine).complaints if each.kind == "delivery"]


def test_what_is_delivered_and_not_confirmed_keeps_its_study(engine):
    receive(engine, make_instance())
    complete(engine, "head")
    held = done(engine, report())
    deliver(engine, held, confirm=[ConfirmationKind.COMMITMENT])
    due = going(engine)
    (asked,) = confirmations.due(engine, "pacs", ConfirmationKind.COMMITMENT, at(5))
    confirmations.asked(engine, [asked], "2.25.99", until=at(99), now=at(5))
    waits = going(engine)
    with engine.begin() as connection:
        connection.execute(update(schema.confirmation).values(state=ConfirmationState.CONFIRMED))

    assert (due, waits, going(engine)) == ([], [], [STUDY])


def test_a_quarantined_study_stays_whole(engine):
    receive(engine, make_instance())
    complete(engine)
    receive(engine, make_instance("1.2.3.4.2", patient_id="P2"))

    assert studies.state(engine, STUDY) is StudyState.QUARANTINED
    assert going(engine) == []
    assert expire(engine) == ()


def test_results_that_a_later_generation_replaces_keep_the_study_until_they_are_withdrawn(engine):
    receive(engine, make_instance())
    complete(engine, "head")
    deliver(engine, done(engine, report()))
    receive(engine, make_instance("1.2.3.4.2"))
    complete(engine, "head", seconds=2)

    deliver(engine, done(engine, report("2.25.2")))

    assert going(engine) == []


def test_the_rows_of_a_study_say_that_its_files_are_gone_before_they_go(engine):
    receive(engine, make_instance())
    complete(engine, "head")
    deliver(engine, done(engine, report()))
    paths = [make_instance().path, Path("/data/made/2.25.1")]

    gone = expire(engine)

    assert sorted(gone) == sorted(paths)
    assert files.known_files(engine, paths) == frozenset()
    assert files.missing_files(engine) == ()
    assert studies.state(engine, STUDY) is StudyState.EXPIRED
    assert going(engine) == []


def test_a_file_that_another_study_needs_stays(engine):
    shared = Path("/data/shared")
    receive(engine, make_instance(path=shared))
    other = make_instance("1.2.9.1", study_instance_uid="1.2.9", path=shared)
    receive(engine, other)
    complete(engine)

    assert expire(engine) == ()
    assert files.known_files(engine, [shared]) == {shared}
    complete(engine, study="1.2.9")
    assert expire(engine, "1.2.9") == (shared,)


def test_what_we_made_stays_ours_and_who_sent_a_study_stays_known(engine):
    receive(engine, make_instance())
    complete(engine, "head")
    deliver(engine, done(engine, report()))
    senders = studies.receptions(engine, STUDY)

    expire(engine)

    back = make_instance("2.25.1", study_instance_uid="1.2.77", path=Path("/data/back"))
    assert is_ours(engine, "2.25.1")
    assert receive(engine, back) is Added.OURS
    assert studies.receptions(engine, STUDY) == senders


def test_a_result_that_came_back_goes_although_its_study_is_not_known(engine):
    receive(engine, make_instance())
    complete(engine, "head")
    done(engine, report())
    back = make_instance("2.25.1", study_instance_uid="1.2.77", path=Path("/data/back"))
    receive(engine, back, seconds=60)

    early = retention.expire_strays(engine, before=at(59), now=LATER)

    assert early == ()
    assert retention.expire_strays(engine, before=at(60), now=LATER) == (back.path,)
    assert retention.expire_strays(engine, before=at(60), now=LATER) == ()


def test_the_same_study_again_is_a_duplicate_as_it_was_before_and_nothing_is_done(engine):
    receive(engine, make_instance())
    complete(engine, "head")
    deliver(engine, done(engine, report()))
    expire(engine)

    again = receive(engine, make_instance(), seconds=20 * 86400)

    assert again is Added.DUPLICATE
    assert retention.reopen(engine, at(20 * 86400 + 1)) == ()
    assert len(tasks.of_study(engine, STUDY)) == 1
    assert files.known_files(engine, [make_instance().path]) == {make_instance().path}


def test_what_was_sent_again_goes_again(engine):
    receive(engine, make_instance())
    complete(engine)
    expire(engine)
    receive(engine, make_instance(), seconds=20 * 86400)
    early = going(engine, before=at(20 * 86400 - 1))

    later = at(28 * 86400)

    assert (early, going(engine, before=later)) == ([], [STUDY])
    assert expire(engine, before=later) == (make_instance().path,)
    assert going(engine, before=later) == []


def test_a_late_image_alone_is_not_analyzed_because_the_others_are_gone(engine):
    receive(engine, make_instance())
    complete(engine, "head")
    done(engine, report(to=None))
    expire(engine)

    late = receive(engine, make_instance("1.2.3.4.2"), seconds=20 * 86400)

    assert late is Added.NEW
    assert retention.reopen(engine, at(20 * 86400 + 1)) == ()
    assert studies.due(engine, at(30 * 86400)) == ()
    assert studies.state(engine, STUDY) is StudyState.EXPIRED


def test_a_late_image_is_analyzed_with_the_others_once_these_were_sent_again(engine):
    receive(engine, make_instance())
    receive(engine, make_instance("1.2.3.4.3"))
    complete(engine, "head")
    done(engine, report(to=None))
    expire(engine)
    day = 20 * 86400
    receive(engine, make_instance("1.2.3.4.2"), seconds=day)
    receive(engine, make_instance(), seconds=day + 1)
    incomplete = retention.reopen(engine, at(day + 2))
    receive(engine, make_instance("1.2.3.4.3"), seconds=day + 3)

    opened = retention.reopen(engine, at(day + 4))

    assert (incomplete, opened) == ((), (STUDY,))
    assert studies.state(engine, STUDY) is StudyState.RECEIVING
    (new,) = complete(engine, "head", seconds=day + 60)
    made = instances.of_study(engine, STUDY, tasks.find(engine, new).generation)
    assert [each.sop_instance_uid for each in made] == ["1.2.3.4.1", "1.2.3.4.2", "1.2.3.4.3"]
    assert files.missing_files(engine) == tuple(
        make_instance(uid).path for uid in ("1.2.3.4.1", "1.2.3.4.3", "1.2.3.4.2")
    )


def test_a_study_whose_late_images_wait_for_the_others_is_told_of(engine):
    receive(engine, make_instance())
    complete(engine)
    expire(engine)
    before = status.summary(engine).complaints
    receive(engine, make_instance("1.2.3.4.2"), seconds=20 * 86400)

    (complaint,) = status.summary(engine).complaints

    assert before == ()
    assert (complaint.kind, complaint.id, complaint.state) == ("study", STUDY, "expired")


def test_changed_images_of_a_study_that_is_gone_are_analyzed_when_all_have_come(engine):
    receive(engine, make_instance(), pixels="x")
    complete(engine, "head")
    done(engine, report(to=None))
    expire(engine)

    changed = make_instance(path=Path("/data/changed"))
    receive(engine, changed, "b", pixels="y", seconds=20 * 86400)

    assert retention.reopen(engine, at(20 * 86400 + 1)) == (STUDY,)
    (now_counts,) = instances.of_study(engine, STUDY)
    assert now_counts.path.name.startswith("changed")


def test_what_a_rejection_note_needs_is_kept(engine):
    receive(engine, make_instance())
    complete(engine, "head")
    deliver(engine, done(engine, report()))

    found = retention.delivered_files(engine, STUDY)
    expire(engine, header=b"header")
    receive(engine, make_instance(), seconds=20 * 86400)
    expire(engine, before=at(30 * 86400))

    assert found == (Path("/data/made/2.25.1"),)
    assert retention.header_of(engine, STUDY) == b"header"


BEFORE = st.lists(st.sampled_from(["arrive", "again", "other"]), max_size=2)
WORK = st.one_of(
    st.just(["complete_unwanted"]),
    st.sampled_from(["finish", "shadow", "reject", "park", "fail", "claim"]).map(
        lambda ending: ["complete", "claim", ending]
    ),
)
AFTER = st.lists(
    st.sampled_from(
        [
            *("tell", "retry", "claim", "finish", "arrive", "again", "complete"),
            *("deliver", "deliver", "deliver_asking", "deliver_asking", "confirm", "lacking"),
            *("refuse", "refuse_for_another", "refuse_for_another", "deliver"),
            *("park_delivery", "release", "expire"),
        ]
    ),
    max_size=8,
)
LIVES = st.tuples(BEFORE, WORK, AFTER).map(
    lambda parts: [*parts[0], "arrive", *parts[1], *parts[2]]
)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(moves=LIVES)
def test_whatever_happened_nothing_that_is_owed_is_let_go(tmp_path_factory, moves):
    engine = new_ledger(tmp_path_factory.mktemp("ledger"))
    history = _History(engine)

    for move in moves:
        getattr(history, move)()
    owed = history.owed_files()
    gone = history.expire()
    known = files.known_files(engine, owed)
    engine.dispose()

    assert not owed & gone
    assert known == owed


class _History:
    """A study as it may be treated, and its own account of the files that are owed."""

    def __init__(self, engine):
        self.engine = engine
        self.clock = 0
        self.held = None
        self.arrivals = 0
        self.results = 0

    def tick(self):
        self.clock += 1
        return at(self.clock)

    def arrive(self):
        self.arrivals += 1
        receive(self.engine, make_instance(f"1.2.3.4.{self.arrivals}"), seconds=self.clock)

    def again(self):
        if self.arrivals:
            receive(self.engine, make_instance("1.2.3.4.1"), seconds=self.clock)

    def other(self):
        other = make_instance("1.2.9.1", study_instance_uid="1.2.9", path=Path("/data/1.2.3.4.1"))
        receive(self.engine, other, seconds=self.clock)

    def complete(self):
        complete(self.engine, "head", seconds=self.clock)

    def complete_unwanted(self):
        complete(self.engine, seconds=self.clock)

    def claim(self):
        self.held = tasks.claim(self.engine, "w", self.tick()) or self.held

    def finish(self, to="pacs"):
        if self.held:
            self.results += 1
            made = report(f"2.25.{self.results}", to=to)
            reserve = report(f"2.25.{self.results}.1", to=None, result="report_basic")
            tasks.finish(self.engine, self.held, [made, reserve], self.tick())

    def shadow(self):
        self.finish(to=None)

    def _give_up(self, state):
        if self.held:
            tasks.give_up(self.engine, self.held, state=state, error="e", now=self.tick())

    def reject(self):
        self._give_up(State.REJECTED)

    def park(self):
        self._give_up(State.PARKED)

    def fail(self):
        self._give_up(State.FAILED)

    def tell(self):
        task = untold_tasks.next_untold(self.engine)
        if task:
            self.results += 1
            made = replace(report(f"2.25.{self.results}"), result="outcome")
            untold_tasks.told(self.engine, task, [made], self.tick())

    def retry(self):
        for task in tasks.of_study(self.engine, STUDY):
            if task.state in (State.PARKED, State.FAILED):
                tasks.retry(self.engine, task.id, self.tick())

    def _owed(self, state=DeliveryState.WAITING):
        found = tasks.of_study(self.engine, STUDY)
        every = [each for task in found for each in outbox.of_task(self.engine, task.id)]
        return [each for each in every if each.state is state]

    def deliver(self, confirm=()):
        for each in self._owed()[:1]:
            outbox.delivered(self.engine, each, 0x0000, self.tick(), confirm=confirm)

    def deliver_asking(self):
        self.deliver(confirm=[ConfirmationKind.READBACK])

    def _asked(self):
        return confirmations.due(self.engine, "pacs", ConfirmationKind.READBACK, at(10**6))

    def confirm(self):
        for each in self._asked():
            confirmations.confirm(self.engine, each, self.tick())

    def lacking(self):
        for each in self._asked():
            confirmations.give_up(self.engine, each, reason="no", now=self.tick())

    def refuse(self):
        for each in self._owed()[:1]:
            outbox.refuse(self.engine, each, status=0x0122, reason="no", now=self.tick())

    def refuse_for_another(self):
        for each in self._owed()[:1]:
            outbox.refuse(
                self.engine, each, status=None, reason="no", now=self.tick(), instead=FALLBACKS
            )

    def park_delivery(self):
        for each in self._owed()[:1]:
            outbox.park(self.engine, each, status=None, reason="no", now=self.tick())

    def release(self):
        for each in self._owed(DeliveryState.PARKED) + self._owed(DeliveryState.REFUSED):
            outbox.release(self.engine, each.id, self.tick())

    def expire(self):
        return set(expire(self.engine, before=at(10**6)))

    def owed_files(self):
        """Return every file that somebody may still ask for, by reading the tables plainly."""
        with reading(self.engine) as connection:
            tables = {
                name: connection.execute(select(getattr(schema, name))).all()
                for name in ("study", "task", "delivery", "confirmation", "artifact", "instance")
            }
        # Of what is made here, the basic report alone stands in for another.
        replaced = {
            row.task_id
            for row in tables["delivery"]
            for made in tables["artifact"]
            if (made.sop_instance_uid, made.result) == (row.sop_instance_uid, "report_basic")
            if row.state == "delivered"
        }
        open_deliveries = {
            row.id
            for row in tables["delivery"]
            if row.state in ("waiting", "parked", "refused")
            if not (row.state == "refused" and row.task_id in replaced)
        } | {
            row.delivery_id
            for row in tables["confirmation"]
            for sent in tables["delivery"]
            if sent.id == row.delivery_id and sent.state == "delivered"
            if row.state != "confirmed"
        }
        owed = {Path(row.path) for row in tables["delivery"] if row.id in open_deliveries}
        unsettled = {
            row.study_instance_uid
            for row in tables["task"]
            if row.state in ("ready", "running", "parked", "failed", "quarantined") or row.untold
        } | {row.study_instance_uid for row in tables["study"] if row.state == "receiving"}
        owed |= {
            Path(row.path)
            for row in tables["instance"]
            if row.study_instance_uid in unsettled and row.expired is None
        }
        return frozenset(owed)
