"""The worker: claims a task, has its child do it, records what came of it; no torch here."""

import logging
import random
import shutil
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from dicom_io.origin import Origin
from dicom_io.select import select_series
from dicom_io.study import Study, group_studies
from node.child import (
    AbandonedError,
    ChildDiedError,
    ChildSettings,
    InferenceChild,
    RemoteError,
    TimeLimitError,
)
from node.config import Config, Plan, Route
from node.errors import (
    ConfigError,
    class_names,
    decide_by_name,
    retry_delay_seconds,
    state_after,
)
from node.handover import hand_over
from node.ledger import instances, studies, tasks
from node.ledger.engine import Engine
from node.order import Order, Result
from node.origins import origin_of
from node.outcomes import tell_next
from node.priors import priors_of
from node.profiles import Share
from node.progress import Progress, clear_progress, write_progress
from node.routing import destinations_of
from node.shares import plan_for, refused_results, shares_of
from node.task import NewDelivery, RefusedResult, State, Task
from node.withdraw import predecessors, withdraw_next_superseded

logger = logging.getLogger(__name__)

#: Errors whose messages are ours: UIDs and numbers. Others may quote a data set.
_SPEAKING = frozenset(
    {
        "DicomInputError",
        "UnsuitableInputError",
        "ModelUnavailableError",
        "ExplanationError",
        "NetworkChangedError",
        "EncodingError",
        "ConfigError",
        "OSError",
        "MemoryError",
    }
)
_FRAMES_KEPT = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSettings:
    """What a worker process needs; goes through ``multiprocessing`` spawn."""

    name: str
    config: Config
    child: ChildSettings
    software_version: str
    lease_seconds: float = 60.0
    #: How often an idle worker looks for work.
    poll_seconds: float = 0.5
    #: First pause before a retry, and the longest.
    retry_base_seconds: float = 15.0
    retry_cap_seconds: float = 900.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fulfilled:
    """What came of one task, before it is recorded."""

    result: Result
    owed: tuple[NewDelivery, ...]
    #: What destinations are known not to take of it.
    refused: tuple[RefusedResult, ...]


class Lease:
    """The claim on one task, renewed by a thread while the block runs."""

    def __init__(self, engine: Engine, task: Task, seconds: float) -> None:
        self._engine = engine
        self._task = task
        self._seconds = seconds
        self._lost = threading.Event()

    @property
    def held(self) -> bool:
        """False once another worker may have the task."""
        return not self._lost.is_set()

    @contextmanager
    def renewed(self) -> Iterator[None]:
        """Keep the lease alive while the block runs."""
        done = threading.Event()
        thread = threading.Thread(target=self._renew_until, args=(done,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def _renew_until(self, done: threading.Event) -> None:
        while not done.wait(self._seconds / 4):
            try:
                held = tasks.renew(self._engine, self._task, _now(), self._seconds)
            except Exception:  # a loop: the next turn may succeed before the lease is over
                logger.exception("lease not renewed", extra={"event": "lease_not_renewed"})
                continue
            if not held:
                self._lost.set()
                return


class Worker:
    """One worker: an engine, a child, and the configuration that it was started with."""

    def __init__(self, engine: Engine, settings: WorkerSettings, stop: threading.Event) -> None:
        self._engine = engine
        self._settings = settings
        self._stop = stop
        self._child = InferenceChild(settings.child)
        self._stage = ""
        self._warned = False
        #: Moment of the monotonic clock before which nobody is told anything.
        self._tell_after = 0.0

    def run(self) -> None:
        """Work until told to stop."""
        try:
            self._child.start()
            while not self._stop.is_set():
                told = self.tell_once()
                if not self.work_once() and not told:
                    self._stop.wait(self._settings.poll_seconds)
        finally:
            self.end()

    def end(self) -> None:
        """End the child, whatever it is doing."""
        self._child.end()

    def tell_once(self) -> bool:
        """Tell destinations of one task without a result, and of one that was superseded.

        Returns whether there was one.
        """
        settings = self._settings
        version = settings.software_version
        if time.monotonic() < self._tell_after:
            return False
        try:
            told = tell_next(self._engine, settings.config, software_version=version)
            withdrew = withdraw_next_superseded(
                self._engine, settings.config, software_version=version
            )
        except Exception as error:  # noqa: BLE001 - a loop: what is untold stays untold
            self._tell_after = time.monotonic() + settings.retry_base_seconds
            extra = {"event": "outcome_postponed", "error": class_names(error)[0]}
            logger.warning("destinations cannot be told now, will retry", extra=extra)
            return False
        return told or withdrew

    def work_once(self) -> bool:
        """Claim one task and see it through; return whether there was one."""
        settings = self._settings
        task = tasks.claim(self._engine, settings.name, _now(), settings.lease_seconds)
        if task is None:
            return False
        sys.audit("pellucid.worker.claimed")
        logger.info("task started", extra=_about(task, "task_started"))
        lease = Lease(self._engine, task, settings.lease_seconds)
        try:
            with lease.renewed():
                done = self._fulfill(task, lease)
                sys.audit("pellucid.worker.handed_over")
                finished = self._finish(task, done)
                sys.audit("pellucid.worker.finished")
        except AbandonedError:
            self._hand_back(task, lease)
        except (ChildDiedError, TimeLimitError) as error:
            self._record_death(task, error)
        except Exception as error:  # noqa: BLE001 - the worker's loop: node.errors decides
            self._give_up(task, error)
        else:
            _log_result(task, done.result, finished=finished)
        finally:
            clear_progress(settings.config.node.data, settings.name)
            shutil.rmtree(self._folder(task), ignore_errors=True)
        return True

    def _fulfill(self, task: Task, lease: Lease) -> _Fulfilled:
        config = self._settings.config
        route = _route_of(config, task)
        study = _study_of(self._engine, task)
        shares = self._shares(task, route)
        plan = plan_for(config, route, shares)
        order = Order(
            study=study,
            origin=self._origin(task, route, study, plan),
            plan=plan,
            folder=self._folder(task),
            priors=priors_of(config, route, study),
        )
        result = self._child.run(
            order,
            wanted=lambda: lease.held and not self._stop.is_set(),
            told=lambda message: self._note(task, message),
        )
        sys.audit("pellucid.worker.computed")
        self._warn_unless_isolated()
        owed = hand_over(result, self._folder(task), study, data=config.node.data, shares=shares)
        return _Fulfilled(result=result, owed=owed, refused=refused_results(shares))

    def _origin(self, task: Task, route: Route, study: Study, plan: Plan) -> Origin:
        selected = [select_series(study, selector) for selector in plan.select]
        return origin_of(
            task,
            route,
            config=self._settings.config,
            software_version=self._settings.software_version,
            inputs=(
                instance.sop_instance_uid
                for series in selected
                if series is not None
                for instance in series.instances
            ),
            predecessors=predecessors(self._engine, task),
        )

    def _finish(self, task: Task, done: _Fulfilled) -> bool:
        told = (*done.result.explained, *done.result.failures)
        return tasks.finish(
            self._engine, task, done.owed, _now(), explained=told, refused=done.refused
        )

    def _shares(self, task: Task, route: Route) -> dict[str, Share]:
        """Return what each destination of a task gets, by what is known of it now."""
        config = self._settings.config
        receptions = studies.receptions(self._engine, task.study_instance_uid)
        owed = destinations_of(route, receptions, config.peers)
        return shares_of(self._engine, config, route, owed)

    def _note(self, task: Task, message: Mapping[str, Any]) -> None:
        """Put down how far the child is."""
        if message["kind"] == "stage":
            self._stage = str(message["stage"])
        write_progress(
            self._settings.config.node.data,
            Progress(
                worker=self._settings.name,
                task=task.id,
                study_instance_uid=task.study_instance_uid,
                route=task.route,
                stage=self._stage,
                done=int(message.get("done", 0)),
                total=int(message.get("total", 0)),
            ),
        )

    def _hand_back(self, task: Task, lease: Lease) -> None:
        if not lease.held:
            logger.warning("lease lost, result dropped", extra=_about(task, "lease_lost"))
            return
        tasks.hand_back(self._engine, task, _now())
        logger.info("task handed back, the node stops", extra=_about(task, "task_handed_back"))

    def _record_death(self, task: Task, error: ChildDiedError | TimeLimitError) -> None:
        state = tasks.died(self._engine, task, error=str(error), now=_now())
        logger.warning(
            "inference child lost",
            extra={**_about(task, "child_lost"), "state": state, "reason": str(error)},
        )

    def _give_up(self, task: Task, error: Exception) -> None:
        settings = self._settings
        names = error.names if isinstance(error, RemoteError) else class_names(error)
        state = state_after(decide_by_name(names), task.attempt)
        now = _now()
        pause = retry_delay_seconds(
            task.attempt,
            base=settings.retry_base_seconds,
            cap=settings.retry_cap_seconds,
            jitter=random.random(),  # noqa: S311 - spreads retries, protects nothing
        )
        tasks.give_up(
            self._engine,
            task,
            state=state,
            error=_in_words(error, names),
            now=now,
            not_before=now + timedelta(seconds=pause),
        )
        level = logging.WARNING if state in (State.READY, State.REJECTED) else logging.ERROR
        logger.log(
            level,
            "task not done",
            extra={**_about(task, "task_not_done"), "state": state, "error": names[0]},
        )

    def _folder(self, task: Task) -> Path:
        return self._settings.child.folder / f"{task.id}-{task.token}"

    def _warn_unless_isolated(self) -> None:
        if self._child.isolated is False and not self._warned:
            self._warned = True
            logger.warning(
                "models run with access to the network: the kernel permits no network namespace; "
                "allow user namespaces, or run the container with its own network policy",
                extra={"event": "no_network_isolation"},
            )


def _route_of(config: Config, task: Task) -> Route:
    for route in config.routes:
        if route.name == task.route:
            return route
    raise ConfigError(f"route {task.route!r} of task {task.id} is not configured any more")


def _study_of(engine: Engine, task: Task) -> Study:
    (study,) = group_studies(instances.of_study(engine, task.study_instance_uid, task.generation))
    return study


def _in_words(error: Exception, names: Iterable[str]) -> str:
    """Return what a person may read of an error: no value of a data set."""
    own, *_ = kinds = tuple(names)
    if _SPEAKING.intersection(kinds):
        return f"{own}: {error}"
    if isinstance(error, RemoteError):
        return f"{own} at " + " < ".join(reversed(error.places[-_FRAMES_KEPT:]))
    return own


def _about(task: Task, event: str) -> dict[str, Any]:
    return {
        "event": event,
        "task": task.id,
        "study": task.study_instance_uid,
        "route": task.route,
        "attempt": task.attempt,
    }


def _log_result(task: Task, result: Result, *, finished: bool) -> None:
    if not finished:
        logger.warning("task was another's, result dropped", extra=_about(task, "lease_lost"))
        return
    logger.info(
        "task done",
        extra={
            **_about(task, "task_done"),
            "objects": len(result.files),
            **{f"{name}_s": seconds for name, seconds in result.seconds.items()},
        },
    )
    if result.failures:
        logger.warning(
            "explanations could not be made; the findings are delivered without them",
            extra={**_about(task, "not_explained"), "failures": "; ".join(result.failures)},
        )


def _now() -> datetime:
    return datetime.now(UTC)
