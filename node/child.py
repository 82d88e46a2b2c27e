"""The worker's handle on its inference child: start, order, watch, end."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from node.channel import CALL_OFF, Channel, ChannelClosedError, ChannelProtocolError
from node.order import Order, Result, order_to_message, result_from_message

#: Of the worker's environment, what the child needs to find its libraries and its device.
_INHERITED = ("PATH", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES")
_LOOK_SECONDS = 0.2
_END_SECONDS = 5.0


class ChildDiedError(RuntimeError):
    """The inference child ended in the middle of an order, or broke the protocol."""


class TimeLimitError(RuntimeError):
    """An order took longer than it may; its child was ended."""


class AbandonedError(RuntimeError):
    """The worker itself stopped the order: lease lost, or the service is stopping."""


class RemoteError(RuntimeError):
    """What went wrong in the child, by the names of the error's classes.

    Attributes
    ----------
    names
        As ``node.errors.class_names`` gives them, the error's own first.
    places
        Where it came from: file, line and function of each frame.
    """

    def __init__(self, names: Sequence[str], message: str, places: Sequence[str]) -> None:
        super().__init__(message)
        self.names = tuple(names)
        self.places = tuple(places)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildSettings:
    """How the child runs."""

    #: Folder of its own, emptied when it starts: home, temporary files, and a folder per task.
    folder: Path
    threads: int = 1
    #: Cap of its private memory; 0 for none.
    memory_bytes: int = 0
    #: Wall-clock limit of one order.
    time_limit_seconds: float = 3600.0
    #: How long the child may take to end an order that is called off, before it is ended itself.
    call_off_seconds: float = 2.0
    #: The program; tests put another one in its place.
    command: tuple[str, ...] = (sys.executable, "-P", "-m", "node.inference")


class InferenceChild:
    """One child process; started again by the order that follows its death."""

    def __init__(self, settings: ChildSettings) -> None:
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: Channel | None = None
        #: Whether the kernel let the child leave the network; None before it has said so.
        self.isolated: bool | None = None

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Start the process now, so that its first order need not wait for it."""
        self._started()

    def run(
        self,
        order: Order,
        *,
        wanted: Callable[[], bool],
        told: Callable[[Mapping[str, Any]], None],
    ) -> Result:
        """Have one order fulfilled and return the result.

        Parameters
        ----------
        wanted
            Asked several times a second; False calls the order off. A child that is explaining
            ends that soon and keeps its models; one that does not listen is ended.
        told
            Called with every message on the way: ``stage`` and ``progress``.

        Raises
        ------
        RemoteError
            The order could not be fulfilled; the child is well.
        AbandonedError
            The order was called off.
        ChildDiedError, TimeLimitError
            The child is gone; the next order starts another one.
        """
        try:
            return self._converse(order, wanted, told)
        except (ChannelClosedError, ChannelProtocolError) as error:
            raise ChildDiedError(f"the inference child {self._post_mortem()}") from error
        except (RemoteError, AbandonedError):
            raise
        except BaseException:
            # The answer to an order that is broken off must not be taken for that to the next.
            self.end()
            raise

    def end(self) -> None:
        """End the child now; nothing that it was doing counts."""
        if self._channel is not None:
            self._channel.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait(_END_SECONDS)
        self._process = self._channel = None

    def _converse(
        self, order: Order, wanted: Callable[[], bool], told: Callable[[Mapping[str, Any]], None]
    ) -> Result:
        limit = self._settings.time_limit_seconds
        deadline = time.monotonic() + limit
        channel = self._started()
        channel.send(order_to_message(order))
        while True:
            message = channel.receive(_LOOK_SECONDS)
            if not wanted():
                self._call_off(channel, message)
                raise AbandonedError("stopped by the worker")
            if time.monotonic() > deadline:
                raise TimeLimitError(f"not done after {limit:.0f} s")
            match message:
                case None:
                    continue
                case {"kind": "result"}:
                    return result_from_message(message)
                case {"kind": "error"}:
                    raise RemoteError(message["names"], message["message"], message["places"])
                case {"kind": "started"}:
                    self.isolated = not message["network"]
                case _:
                    told(message)

    def _call_off(self, channel: Channel, message: Mapping[str, Any] | None) -> None:
        """Have the child stop what it does, and leave it only if it waits for the next order."""
        deadline = time.monotonic() + self._settings.call_off_seconds
        try:
            if not _is_answer(message):
                channel.send(CALL_OFF)
            while not _is_answer(message):
                if time.monotonic() > deadline:
                    self.end()
                    return
                message = channel.receive(_LOOK_SECONDS)
        except (ChannelClosedError, ChannelProtocolError):
            self.end()

    def _started(self) -> Channel:
        if self._process is not None and self._process.poll() is not None:
            self.end()
        return self._channel or self._start()

    def _start(self) -> Channel:
        settings = self._settings
        shutil.rmtree(settings.folder, ignore_errors=True)
        settings.folder.mkdir(parents=True, mode=0o700)
        ours, theirs = socket.socketpair()
        with theirs:
            options = (
                f"--channel={theirs.fileno()}",
                f"--parent={os.getpid()}",
                f"--memory-bytes={settings.memory_bytes}",
            )
            self._process = subprocess.Popen(  # noqa: S603 - our own module
                [*settings.command, *options],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                cwd=settings.folder,
                env=_environment(settings),
            )
        self._channel = Channel(ours)
        return self._channel

    def _post_mortem(self) -> str:
        """End what is left of the child and say how it went."""
        process = self._process
        if process is None:
            return "could not be started"
        try:
            code = process.wait(0.5)
        except subprocess.TimeoutExpired:
            self.end()
            return "broke the protocol and was ended"
        self.end()
        if code < 0:
            return f"was ended by signal {-code}"
        return f"ended with exit status {code}"


def _is_answer(message: Mapping[str, Any] | None) -> bool:
    return message is not None and message.get("kind") in {"result", "error"}


def _environment(settings: ChildSettings) -> dict[str, str]:
    """Return the child's whole environment: no secret of the service is in it."""
    threads = str(settings.threads)
    return {
        **{name: os.environ[name] for name in _INHERITED if name in os.environ},
        "LANG": "C.UTF-8",
        "HOME": str(settings.folder),
        "TMPDIR": str(settings.folder),
        "OMP_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
        "OPENBLAS_NUM_THREADS": threads,
        "NUMEXPR_NUM_THREADS": threads,
        # torch asks for huge pages: volumes are written in a quarter less time.
        "THP_MEM_ALLOC_ENABLE": "1",
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
        "PYTHONHASHSEED": "0",
    }
