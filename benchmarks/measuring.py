"""Time in forward passes and memory in bytes, on a machine that does other things meanwhile."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch.profiler import ProfilerActivity, profile

#: Something to run; what it returns is dropped.
Run = Callable[[], object]
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How often a run is repeated: up to ``rounds`` times, but no further than ``seconds``."""

    rounds: int = 3
    seconds: float = 4.0


class Stopwatch:
    """Times runs in forward passes (F) of one network.

    F is measured anew before and after every run, and the cheaper of the two is the unit: so a
    change in the load of the machine touches both. On the processor the time of this process's
    threads counts, on an accelerator the time until it is done.

    Parameters
    ----------
    forward
        One plain forward pass.
    device
        ``cpu`` or ``cuda``.
    patience
        How often each run is repeated; the cheapest counts.
    """

    def __init__(self, forward: Run, device: torch.device, patience: Patience) -> None:
        self._forward, self._device, self._patience = forward, device, patience
        forward()
        self._unit = self._unit_now()
        #: The cheapest forward pass so far, in seconds.
        self.forward_seconds = self._unit

    def measured(self, run: Callable[[], T]) -> tuple[T, float]:
        """Return what a run gives, and what it costs in F."""
        before = self._unit
        results: list[T] = []
        seconds = self._cheapest(lambda: results.append(run()), self._patience)
        self._unit = self._unit_now()
        self.forward_seconds = min(self.forward_seconds, self._unit)
        return results[-1], seconds / min(before, self._unit)

    def _unit_now(self) -> float:
        return self._cheapest(self._forward, Patience(rounds=3, seconds=self._patience.seconds / 4))

    def _cheapest(self, run: Run, patience: Patience) -> float:
        times: list[float] = []
        while len(times) < patience.rounds and sum(times) < patience.seconds:
            times.append(seconds_of(run, self._device))
        return min(times)


def seconds_of(run: Run, device: torch.device) -> float:
    """Return the time of one run."""
    if device.type != "cuda":
        start = time.process_time()
        run()
        return time.process_time() - start
    torch.cuda.synchronize(device)
    start = time.perf_counter()
    run()
    torch.cuda.synchronize(device)
    return time.perf_counter() - start


def peak_bytes(run: Run, device: torch.device) -> int:
    """Return the most memory that tensors took at once during a run, beyond what was there."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        run()
        return int(torch.cuda.max_memory_allocated(device) - before)
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # the profiler announces itself on every use
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        run()
    events = [
        each for each in recorded.profiler.kineto_results.events() if each.name() == "[memory]"
    ]
    held = most = 0
    for each in sorted(events, key=lambda each: each.start_ns()):
        held += each.nbytes()
        most = max(most, held)
    return most
