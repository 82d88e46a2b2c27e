"""Child processes that are started again when they end, with growing pauses."""

import logging
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess

logger = logging.getLogger(__name__)

#: Pause before the first restart; each further one doubles it.
FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 30.0
#: A child that lived so long starts its pauses anew.
_HEALTHY_SECONDS = 60.0


class Supervised:
    """One child of the service.

    Parameters
    ----------
    start
        Starts the process and returns it; always called from the thread that supervises, because
        a child dies with the thread that started it.
    running
        The process as it was started for the first time.
    ended
        Called after each death that was not asked for, before the restart.
    """

    def __init__(
        self,
        name: str,
        start: Callable[[], BaseProcess],
        *,
        running: BaseProcess,
        ended: Callable[[], object] = lambda: None,
    ) -> None:
        self.name = name
        self._start = start
        self._ended = ended
        self._process: BaseProcess | None = running
        self._started_at = time.monotonic()
        self._restart_at = 0.0
        self._deaths = 0

    @property
    def process(self) -> BaseProcess | None:
        """The process, while it has not been seen to end."""
        return self._process

    def look(self) -> None:
        """See whether the process has ended; start it again when its pause is over."""
        now = time.monotonic()
        if self._process is None:
            if now >= self._restart_at:
                self._restart(now)
        elif not self._process.is_alive():
            self._bury(now)

    def terminate(self) -> None:
        """Ask the process to end."""
        if self._process is not None:
            self._process.terminate()

    def join(self, deadline: float) -> None:
        """Wait for the end until ``deadline`` (monotonic seconds), then make it."""
        if self._process is None:
            return
        self._process.join(max(0.0, deadline - time.monotonic()))
        if self._process.is_alive():
            logger.warning(
                "process did not end in time and is killed",
                extra={"event": "process_killed", "child": self.name},
            )
            self._process.kill()
            self._process.join()
        self._process.close()
        self._process = None

    def _restart(self, now: float) -> None:
        try:
            self._process = self._start()
        except OSError as error:  # no memory or no process left on the machine, just now
            self._restart_at = now + LONGEST_PAUSE_SECONDS
            extra = {"event": "process_not_started", "child": self.name, "reason": str(error)}
            logger.warning("process could not be started, will be tried again", extra=extra)
        else:
            self._started_at = now

    def _bury(self, now: float) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if now - self._started_at >= _HEALTHY_SECONDS:
            self._deaths = 0
        pause = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2.0**self._deaths)
        self._deaths += 1
        self._restart_at = now + pause
        logger.warning(
            "process ended and will be started again",
            extra={
                "event": "process_ended",
                "child": self.name,
                "exit_code": process.exitcode,
                "restart_in_s": pause,
            },
        )
        process.close()
        self._ended()


def wait_for_change(children: Sequence[Supervised], timeout_seconds: float) -> None:
    """Return when one of the children ends, or after the time."""
    sentinels = [child.process.sentinel for child in children if child.process is not None]
    wait(sentinels, timeout_seconds)
