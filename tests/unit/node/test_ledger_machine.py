"""The queue beside a plain model of it: whatever is called in whatever order, they agree."""

import tempfile
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    invariant,
    multiple,
    rule,
)
from sqlalchemy import select

from node.errors import ATTEMPTS, TransitionError
from node.ledger import decisions, schema, tasks
from node.ledger.engine import reading
from node.task import TURNS, NewDelivery, PlannedTask, Priority, State, Task
from tests.build_ledger import LONG_AGO, new_ledger
from tests.unit.node.test_ledger_instances import STUDY, make_instance, receive

LEASE = 60
GIVEN_UP = (State.READY, State.REJECTED, State.PARKED, State.FAILED)
WAITING = (State.PARKED, State.FAILED, State.QUARANTINED)


@dataclass
class Model:
    """One task as it should stand; seconds since the beginning."""

    turn: float
    state: State = State.READY
    attempt: int = 0
    deaths: int = 0
    token: int = 0
    not_before: int = 0
    lease: int = 0
    untold: bool = False

    def move(self, state, *, not_before):
        self.state, self.not_before = state, not_before
        self.untold = state in (*WAITING, State.REJECTED)


class Queue(RuleBasedStateMachine):
    """Tasks of one study; claims are bundled so that stale ones come back as zombies do."""

    claims = Bundle("claims")

    def __init__(self):
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(prefix="pellucid-queue-")
        self.engine = new_ledger(Path(self.folder.name))
        receive(self.engine, make_instance())
        self.clock = 0
        self.models: dict[int, Model] = {}
        self.results: dict[int, str] = {}
        self.routes = 0
        for priority in (Priority.ROUTINE, Priority.URGENT):
            self._add(priority)
            self.clock += 5 * 3600

    def teardown(self):
        self.engine.dispose()
        self.folder.cleanup()

    @property
    def now(self):
        return LONG_AGO + timedelta(seconds=self.clock)

    @rule(seconds=st.sampled_from([1, 30, 61, 3 * 3600, 25 * 3600]))
    def wait(self, seconds):
        self.clock += seconds

    @rule(priority=st.sampled_from(Priority))
    def add(self, priority):
        self._add(priority)

    def _add(self, priority):
        self.routes += 1
        plan = PlannedTask(route=f"route-{self.routes}", config_hash="ab", priority=priority)
        for expected in (1, 0):
            with self.engine.begin() as connection:
                added = tasks.add(connection, STUDY, 1, planned=[plan], now=self.now)
            assert len(added) == expected
            for task_id in added:
                turn = self.clock + TURNS[priority].total_seconds()
                self.models[task_id] = Model(turn=turn, not_before=self.clock)

    @rule(target=claims)
    def claim(self):
        return self._claim()

    @rule(target=claims)
    def claim_more(self):
        return self._claim()

    @rule()
    def claim_and_die(self):
        held = self._claim()
        if isinstance(held, Task):
            self.die(held)

    def _claim(self):
        ready = [
            (model.turn, task_id)
            for task_id, model in self.models.items()
            if model.state is State.READY and model.not_before <= self.clock
        ]
        held = tasks.claim(self.engine, "w", self.now, LEASE)
        if not ready:
            assert held is None
            return multiple()
        assert held.id == min(ready)[1]
        model = self.models[held.id]
        model.state, model.untold = State.RUNNING, False
        model.attempt, model.token = model.attempt + 1, model.token + 1
        model.lease = self.clock + LEASE
        assert (held.attempt, held.token) == (model.attempt, model.token)
        return held

    def _held(self, held: Task):
        """Return the model of a claim that still counts, or None."""
        model = self.models[held.id]
        counts = model.state is State.RUNNING and model.token == held.token
        return model if counts else None

    @rule(
        held=claims,
        ending=st.sampled_from(["finish", "die", "die", "hand_back", *GIVEN_UP]),
        pause=st.sampled_from([0, 45]),
    )
    def end(self, held, ending, pause):
        if isinstance(ending, State):
            self.give_up(held, ending, pause)
        else:
            getattr(self, ending)(held)

    @rule(held=claims)
    def renew(self, held):
        model = self._held(held)
        assert tasks.renew(self.engine, held, self.now, LEASE) == (model is not None)
        if model:
            model.lease = self.clock + LEASE

    def finish(self, held):
        model = self._held(held)
        uid = f"2.25.{held.id}.{held.token}"
        made = NewDelivery(
            destination=None, sop_class_uid="1.2", sop_instance_uid=uid, path=Path("/made") / uid
        )
        assert tasks.finish(self.engine, held, [made], self.now) == (model is not None)
        if model:
            model.move(State.DONE, not_before=model.not_before)
            assert held.id not in self.results
            self.results[held.id] = uid

    def give_up(self, held, state, pause):
        model = self._held(held)
        done = tasks.give_up(
            self.engine,
            held,
            state=state,
            error="e",
            now=self.now,
            not_before=self.now + timedelta(seconds=pause),
        )
        assert done == (model is not None)
        if model:
            model.move(state, not_before=self.clock + pause)

    def die(self, held):
        model = self._held(held)
        state = tasks.died(self.engine, held, error="signal 9", now=self.now)
        if model is None:
            assert state is None
            return
        model.deaths += 1
        model.move(State.QUARANTINED if model.deaths >= 2 else State.READY, not_before=self.clock)
        assert state is model.state

    def hand_back(self, held):
        model = self._held(held)
        assert tasks.hand_back(self.engine, held, self.now) == (model is not None)
        if model:
            model.attempt -= 1
            model.move(State.READY, not_before=self.clock)

    @rule(cut=st.booleans(), seconds=st.sampled_from([0, LEASE + 1]))
    def interrupt(self, cut, seconds):
        self.clock += seconds
        if cut:
            self.cut_the_power()
        else:
            self.expire_leases()

    def _interrupt(self, taken):
        for task_id in taken:
            model = self.models[task_id]
            used_up = model.attempt >= ATTEMPTS
            model.move(State.PARKED if used_up else State.READY, not_before=self.clock)

    def expire_leases(self):
        silent = [
            task_id
            for task_id, model in self.models.items()
            if model.state is State.RUNNING and model.lease < self.clock
        ]
        assert sorted(tasks.reclaim_expired(self.engine, self.now)) == silent
        self._interrupt(silent)

    def cut_the_power(self):
        running = [i for i, model in self.models.items() if model.state is State.RUNNING]
        assert sorted(tasks.release_from(self.engine, ["w"], self.now)) == running
        self._interrupt(running)

    def _decide(self, call, task_id, *, allowed, after, fresh=False):
        model = self.models[task_id]
        try:
            call()
        except TransitionError:
            assert not allowed
            return
        assert allowed
        not_before = self.clock if fresh else model.not_before
        model.move(after, not_before=not_before)
        if fresh:
            model.attempt = model.deaths = 0

    @rule(
        decision=st.sampled_from(["retry", "retry", "release", "cancel", "dismiss", "supersede"]),
        number=st.integers(0, 9),
    )
    def decide(self, decision, number):
        getattr(self, decision)(sorted(self.models)[number % len(self.models)])

    def retry(self, task_id):
        self._decide(
            lambda: tasks.retry(self.engine, task_id, self.now),
            task_id,
            allowed=self.models[task_id].state in WAITING,
            after=State.READY,
            fresh=True,
        )

    def release(self, task_id):
        self._decide(
            lambda: decisions.release_task(self.engine, task_id, reason="r", now=self.now),
            task_id,
            allowed=self.models[task_id].state is State.QUARANTINED,
            after=State.READY,
            fresh=True,
        )

    def cancel(self, task_id):
        self._decide(
            lambda: decisions.cancel_task(self.engine, task_id, reason="r", now=self.now),
            task_id,
            allowed=self.models[task_id].state in (State.READY, State.RUNNING),
            after=State.CANCELLED,
        )

    def dismiss(self, task_id):
        model = self.models[task_id]
        self._decide(
            lambda: decisions.dismiss_task(self.engine, task_id, reason="r", now=self.now),
            task_id,
            allowed=model.state in WAITING and not model.untold,
            after=State.CANCELLED,
        )

    def supersede(self, task_id):
        """Do what a later generation does to a ready task of an earlier one."""
        with self.engine.begin() as connection:
            tasks.cancel_all(
                connection,
                schema.task.c.id == task_id,
                before=(State.READY,),
                reason="superseded",
                now=self.now,
            )
        model = self.models[task_id]
        if model.state is State.READY:
            model.move(State.CANCELLED, not_before=model.not_before)

    @invariant()
    def they_agree(self):
        with reading(self.engine) as connection:
            rows = connection.execute(select(schema.task).order_by(schema.task.c.id)).all()
        stands = {
            row.id: (row.state, row.attempt, row.deaths, row.token, row.untold) for row in rows
        }
        assert stands == {
            task_id: (model.state, model.attempt, model.deaths, model.token, model.untold)
            for task_id, model in self.models.items()
        }

    @invariant()
    def every_result_is_of_the_one_claim_that_counted(self):
        table = schema.artifact.c
        with reading(self.engine) as connection:
            made = connection.execute(select(table.task_id, table.sop_instance_uid)).all()
        assert {row.task_id: row.sop_instance_uid for row in made} == self.results
        assert len(made) == len(self.results)


Queue.TestCase.settings = settings(
    max_examples=40,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
TestQueue = Queue.TestCase
