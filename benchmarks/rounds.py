"""One network under measurement: ours first, then those beside it, on the same question."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from ai.explainers.layers import deepest_layer
from ai.explainers.layout import layout_of
from ai.model import Attribution, Explainer, Settings
from ai.session import FAMILY, ExplainSession
from ai.targets import logits_of
from benchmarks.cells import QUICK, methods, quick, refusal_of
from benchmarks.measuring import Patience, Stopwatch, peak_bytes
from benchmarks.networks import Specimen, Subject
from benchmarks.peers import Peer, Question, question_of
from benchmarks.records import ALL_CAMS, OURS, Record

#: Memory is measured of methods with no more passes than these: what repeats them repeats that too.
_FEW_PASSES = 8.0
#: Methods whose baseline is a set of images.
_OVER_SETS = frozenset({"deeplift_shap", "expected_gradients"})
#: Maps are compared where the axiom of either holds as well as this.
_RIGHT = 1e-3
_HALF = {"cpu": torch.bfloat16, "cuda": torch.float16}


class Round:
    """Measures methods on one subject.

    Parameters
    ----------
    subject
        Network, image and target.
    stopwatch
        That knows what a forward pass of it takes.
    forward_bytes
        Most memory that a plain forward pass takes.
    batch
        How many images at once to try in half precision; 0: not.
    """

    def __init__(
        self, subject: Subject, stopwatch: Stopwatch, *, forward_bytes: int, batch: int = 0
    ) -> None:
        self._subject, self._stopwatch = subject, stopwatch
        self._forward_bytes, self._batch = forward_bytes, batch
        self._device = subject.x.device
        self._found: dict[tuple[str, bool], Attribution | None] = {}

    @classmethod
    def of(
        cls, specimen: Specimen, *, extents: str, device: str, patience: Patience, batch: int
    ) -> "Round":
        """Return the round of one network of the matrix."""
        subject = specimen.subject(getattr(specimen, extents), device=device)
        forward = _forward(subject)
        stopwatch = Stopwatch(forward, subject.x.device, patience)
        taken = peak_bytes(forward, subject.x.device)
        return cls(subject, stopwatch, forward_bytes=taken, batch=batch)

    def ours(self, method: str) -> Record:
        """Return what one of our methods costs and gives."""
        explainer = quick(method)
        record = self._record(OURS, method)

        def run() -> Attribution:
            return self._explained(method, explainer)

        try:
            estimate = explainer.estimate_cost(self._subject.network, self._subject.x)
            attribution, cost = self._stopwatch.measured(run)
        except Exception as error:  # noqa: BLE001, it is what the table shows
            return replace(record, raised=_said(error))
        self._found[method, False] = attribution
        residual = attribution.residual
        few = estimate.forwards + estimate.backwards <= _FEW_PASSES
        return replace(
            record,
            cost=cost,
            passes=attribution.cost.forwards,
            peak=self._peak(run) if few else None,
            residual=None if residual is None else float(residual.max()),
            warnings=attribution.warnings,
            default_passes=self._default_passes(method),
            batched=self._batched(explainer) if self._batch and few else None,
            forward_seconds=self._stopwatch.forward_seconds,
        )

    def all_cams(self, name: str) -> Record:
        """Return what the prediction and all maps of one session cost, its layers chosen before."""
        subject, record = self._subject, self._record(OURS, name)
        family = [each for each in FAMILY if refusal_of(each.name, subject.name) is None]

        def run() -> object:
            return session.on(subject.x).cams(subject.target, family)

        try:
            session = ExplainSession(subject.network, subject.x, layers=self._layers(name))
            _, cost = self._stopwatch.measured(run)
        except Exception as error:  # noqa: BLE001, it is what the table shows
            return replace(record, raised=_said(error))
        return replace(
            record,
            cost=cost,
            passes=1.0,
            peak=self._peak(run),
            forward_seconds=self._stopwatch.forward_seconds,
        )

    def theirs(self, peer: Peer) -> Record:
        """Return what a method of another library costs and gives, and how far ours differs."""
        record = self._record(peer.library, peer.name)
        question = self._question(peer)
        try:
            values, cost = self._stopwatch.measured(lambda: _counted(peer, question))
            passes = question.network.passes
            residual = float(peer.residual(question, values)) if peer.residual else None
            few = passes <= _FEW_PASSES / 2
            peak = self._peak(lambda: peer.answer(question)) if few else None
        except Exception as error:  # noqa: BLE001, it is what the table shows
            return replace(record, raised=_said(error))
        right = residual is None or residual <= _RIGHT
        return replace(
            record,
            cost=cost,
            passes=passes,
            peak=peak,
            residual=residual,
            difference=self._difference(peer, values) if peer.same and right else None,
            forward_seconds=self._stopwatch.forward_seconds,
        )

    def _record(self, library: str, method: str) -> Record:
        return Record(
            network=self._subject.name,
            library=library,
            method=method,
            forward_seconds=self._stopwatch.forward_seconds,
        )

    def _layers(self, name: str) -> tuple[str, ...]:
        if name == ALL_CAMS:
            return ()
        return (deepest_layer(layout_of(self._subject.network, self._subject.x)),)

    def _explained(
        self, method: str, explainer: Explainer, baseline: Tensor | None = None
    ) -> Attribution:
        subject = self._subject
        if method in _OVER_SETS:
            baseline = question_of(subject).references
        return explainer.explain(
            subject.network, subject.x, subject.target, Settings(baseline=baseline)
        )

    def _question(self, peer: Peer) -> Question:
        found = self._ours("grad_cam", zero=False)
        layer = found.layer if found and found.layer else ""
        return question_of(self._subject, layer, zero=peer.zero)

    def _ours(self, method: str, *, zero: bool) -> Attribution | None:
        """Return our answer, made when first asked for; None if there is none."""
        if (method, zero) not in self._found:
            baseline = torch.zeros_like(self._subject.x) if zero else None
            try:
                answer = self._explained(method, quick(method), baseline)
            except Exception:  # noqa: BLE001, the record of our method shows it
                answer = None
            self._found[method, zero] = answer
        return self._found[method, zero]

    def _difference(self, peer: Peer, values: Tensor) -> float | None:
        ours = self._ours(peer.rival, zero=peer.zero) if peer.rival in methods() else None
        if ours is None or ours.values.shape != values.shape:
            return None
        size = float(values.abs().max())
        apart = float((ours.values - values).abs().max())
        return apart / size if size else apart

    def _peak(self, run: Callable[[], object]) -> float:
        return peak_bytes(run, self._device) / max(1, self._forward_bytes)

    def _default_passes(self, method: str) -> float | None:
        if method not in QUICK:
            return None
        return methods()[method]().estimate_cost(self._subject.network, self._subject.x).forwards

    def _batched(self, explainer: Explainer) -> float | None:
        subject = self._subject
        x = subject.x.repeat(self._batch, *[1] * (subject.x.ndim - 1))

        def run() -> None:
            with torch.autocast(self._device.type, _HALF[self._device.type]):
                explainer.explain(subject.network, x, subject.target)

        try:
            return self._stopwatch.measured(run)[1] / self._batch
        except Exception:  # noqa: BLE001, not every method and network takes half precision
            return None


def _counted(peer: Peer, question: Question) -> Tensor:
    question.network.passes = 0
    return peer.answer(question).detach()


def _forward(subject: Subject) -> Callable[[], Tensor]:
    @torch.no_grad()
    def forward() -> Tensor:
        return logits_of(subject.network(subject.x))

    return forward


def _said(error: Exception) -> str:
    first = str(error).strip().splitlines()
    return f"{type(error).__name__}: {first[0][:160] if first else ''}"
