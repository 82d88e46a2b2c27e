"""The clock of the main process: sweeps that APScheduler repeats until it stops.

APScheduler waits for times of day. When the machine's clock is set back by an hour, its jobs would
stand still for that hour; a watch that counts elapsed seconds sees the step and starts them anew.
"""

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.interval import IntervalTrigger

_LOOK_SECONDS = 1.0
#: A smaller step is left to the next turn of each sweep.
_STEP_SECONDS = 1.0


class Clock:
    """Some sweeps that are repeated, each by itself: none keeps another waiting.

    Parameters
    ----------
    time_of_day
        Seconds since the epoch, as the machine's clock has them.
    """

    def __init__(self, time_of_day: Callable[[], float] = time.time) -> None:
        self._time_of_day = time_of_day
        self._ahead = self._offset()
        self._stopped = threading.Event()
        self._scheduler = BackgroundScheduler(timezone=UTC)
        self._watch = threading.Thread(target=self._look_for_steps, name="clock", daemon=True)
        self._scheduler.start()
        self._watch.start()

    def repeat(
        self, sweep: Callable[[], object], *, every_seconds: float, after_seconds: float = 0.0
    ) -> None:
        """Call ``sweep`` after a first pause, and again and again; it must not raise.

        A turn that falls due while the last one lasts is left out.
        """
        self._scheduler.add_job(
            sweep,
            IntervalTrigger(seconds=every_seconds, timezone=UTC),
            next_run_time=datetime.now(UTC) + timedelta(seconds=after_seconds),
            coalesce=True,
            max_instances=1,
            misfire_grace_time=None,
        )

    def stop(self) -> None:
        """Begin no sweep any more, and wait for those that have begun."""
        self._stopped.set()
        self._watch.join()
        self._scheduler.shutdown(wait=True)

    def _look_for_steps(self) -> None:
        """Run every sweep at once when the time of day has gone back."""
        while not self._stopped.wait(_LOOK_SECONDS):
            before, self._ahead = self._ahead, self._offset()
            if self._ahead < before - _STEP_SECONDS:
                for job in self._scheduler.get_jobs():
                    job.modify(next_run_time=datetime.now(UTC))

    def _offset(self) -> float:
        return self._time_of_day() - time.monotonic()
