"""The sandboxed child of a worker: models stay resident, objects go out as files, words as JSON.

Run as ``python -m node.inference``. Nothing heavy is imported before the sandbox is closed.
"""

import argparse
import importlib
import logging
import os
import socket
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from node.channel import CALL_OFF, Channel, ChannelClosedError
from node.errors import class_names
from node.process import (
    SandboxError,
    die_with_parent,
    forbid_core_dumps,
    give_way,
    leave_network,
    limit_memory,
    prefer_as_memory_victim,
    renounce_privileges,
)

if TYPE_CHECKING:
    from ai.model import Model
    from ai.settings import ModelSettings
    from dicom_io.analysis import Analysis
    from node.order import Order, Result

#: Models kept in memory; the least recently used one goes first.
RESIDENT_MODELS = 2
#: Progress is told at most this often.
_PROGRESS_SECONDS = 0.5


def main() -> None:
    """Close the sandbox, then answer orders until the worker is gone."""
    parser = argparse.ArgumentParser(prog="node.inference")
    parser.add_argument("--channel", type=int, required=True, help="file descriptor")
    parser.add_argument("--parent", type=int, required=True, help="process id of the worker")
    parser.add_argument("--memory-bytes", type=int, default=0, help="0 for no limit")
    arguments = parser.parse_args()
    sandboxed = _close_sandbox(arguments.parent, arguments.memory_bytes)
    # Libraries quote values of data sets in warnings and log lines; errors travel by the channel.
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    channel = Channel(socket.socket(fileno=arguments.channel))
    channel.send({"kind": "started", "network": not sandboxed})
    serve(channel)


def serve(channel: Channel) -> None:
    """Answer each order on the channel with stages, progress, and a result or an error."""
    orders: SimpleQueue[dict[str, Any]] = SimpleQueue()
    called_off = threading.Event()
    listener = threading.Thread(target=_listen, args=(channel, orders, called_off), daemon=True)
    listener.start()
    # The heavy libraries are read while the first order is still on its way.
    importlib.import_module("node.pipeline")
    from node.plugins import load_model

    models = ResidentModels(load_model)
    while True:
        channel.send(_answer(orders.get(), models, channel, called_off))


class ResidentModels:
    """Loaded models by everything that makes them what they are."""

    def __init__(
        self, load: "Callable[[ModelSettings], Model]", *, capacity: int = RESIDENT_MODELS
    ) -> None:
        self._load = load
        self._capacity = capacity
        self._models: dict[str, Model] = {}

    def get(self, settings: "ModelSettings") -> "Model":
        """Return the model, loaded now or earlier."""
        key = repr(settings)
        model = self._models.pop(key, None)
        if model is None:
            if len(self._models) >= self._capacity:
                self._models.pop(next(iter(self._models)))
            model = self._load(settings)
        self._models[key] = model
        return model

    def forget_all(self) -> None:
        """Load every model anew when it is asked for next: one is not what it was."""
        self._models.clear()


def _close_sandbox(parent: int, memory_bytes: int) -> bool:
    """Give up what a model has no need for; return whether the network is gone, too."""
    try:
        leave_network()
        sandboxed = True
    except SandboxError:
        sandboxed = False
    die_with_parent(parent)
    renounce_privileges()
    forbid_core_dumps()
    prefer_as_memory_victim()
    give_way()
    if memory_bytes:
        limit_memory(memory_bytes)
    return sandboxed


def _listen(
    channel: Channel, orders: "SimpleQueue[dict[str, Any]]", called_off: threading.Event
) -> None:
    """Pass on what comes; end the process, whatever it is computing, when the worker is gone."""
    while True:
        try:
            message = channel.receive()
        except ChannelClosedError:
            os._exit(0)
        if message == CALL_OFF:
            called_off.set()
        elif message is not None:
            # The order before may have been called off when it was fulfilled already.
            called_off.clear()
            orders.put(message)


def _answer(
    message: Mapping[str, Any],
    models: ResidentModels,
    channel: Channel,
    called_off: threading.Event,
) -> dict[str, Any]:
    from node.order import order_from_message, result_to_message

    try:
        result = _fulfill(order_from_message(message), models, channel, called_off)
        return {"kind": "result", **result_to_message(result)}
    except Exception as error:  # noqa: BLE001 - entry point: every error is told to the worker
        if "NetworkChangedError" in class_names(error):
            models.forget_all()
        return _told(error)


def _fulfill(
    order: "Order", models: ResidentModels, channel: Channel, called_off: threading.Event
) -> "Result":
    from dicom_io.encode.words import failure_text, outcome_text
    from node import pipeline
    from node.budget import analyze_settings
    from node.order import Result

    sys.audit("pellucid.inference.ordered")
    seconds: dict[str, float] = {}

    @contextmanager
    def stage(name: str) -> Iterator[None]:
        channel.send({"kind": "stage", "stage": name})
        start = time.monotonic()
        yield
        seconds[name] = round(time.monotonic() - start, 3)

    with stage("load"):
        settings = analyze_settings(
            order.plan.budget, report=_progress(channel), cancelled=called_off.is_set
        )
        plan = pipeline.load_plan(order.plan, models.get, settings)
    analyses: list[Analysis] = []
    objects = pipeline.run(
        order.study,
        order.origin,
        plan,
        stage=stage,
        told=analyses.extend,
        priors=order.priors,
    )
    order.folder.mkdir(parents=True, exist_ok=True)
    files = tuple(order.folder / f"{index}.dcm" for index in range(len(objects)))
    with stage("write"):
        for made, file in zip(objects, files, strict=True):
            made.dataset.save_as(file, enforce_file_format=True)
    sys.audit("pellucid.inference.written")
    failures = tuple(failure_text(failure) for each in analyses for failure in each.failures)
    explained = tuple(outcome_text(each) for one in analyses for each in one.explanations)
    return Result(
        files=files,
        results=tuple(made.result for made in objects),
        seconds=seconds,
        failures=failures,
        explained=explained,
    )


def _progress(channel: Channel) -> Callable[[int, int], None]:
    last = 0.0

    def report(done: int, total: int) -> None:
        nonlocal last
        if time.monotonic() - last >= _PROGRESS_SECONDS:
            last = time.monotonic()
            channel.send({"kind": "progress", "done": done, "total": total})

    return report


def _told(error: Exception) -> dict[str, Any]:
    """Return an error as values: names of its classes, message, and where it came from."""
    names = list(class_names(error))
    if isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error):
        names.insert(0, "MemoryError")
    frames = traceback.extract_tb(error.__traceback__)
    places = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames]
    return {"kind": "error", "names": names, "message": str(error), "places": places}


if __name__ == "__main__":
    main()
