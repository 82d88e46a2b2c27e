"""The benchmark as tables, and its figures beside those that the design asks for."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from benchmarks.networks import MATRIX
from benchmarks.records import OURS, SESSIONS, Record, Session

_CAMS = ("cam", "grad_cam", "grad_cam_pp", "hires_cam", "layer_cam", "xgrad_cam", "eigen_cam")
_CLASSIFIERS = frozenset(name for name, each in MATRIX.items() if each.kind == "classifier")


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One acceptance figure: the worst that was measured, and what is allowed."""

    name: str
    allowed: float
    #: (value, where) of everything that counts.
    measured: tuple[tuple[float, str], ...]

    @property
    def worst(self) -> tuple[float, str] | None:
        """The greatest value and where it was; None if nothing was measured."""
        return max(self.measured, default=None)


def show(session: Session, console: Console) -> None:
    """Print every table and the check list."""
    names = list(dict.fromkeys(each.network for each in session.records.values()))
    rows = list(dict.fromkeys((each.library, each.method) for each in session.records.values()))
    for title, cell in _TABLES:
        if any(cell(each) for each in session.records.values()):
            console.print(_table(session, names, rows, title=title, cell=cell))
    console.print(_errors(session))
    console.print(_checks(session))


def figures(session: Session) -> tuple[Figure, ...]:
    """Return the acceptance figures of the design, section 9, as far as a benchmark can say."""
    every = session.of(OURS, {each.method for each in session.records.values()})
    worst = _picker(every)
    cams = session.of(OURS, _CAMS)
    return (
        *(
            worst(f"{each} of classifiers, F", 1.2, {each}, _cost, _CLASSIFIERS)
            for each in SESSIONS
        ),
        worst("LRP, F", 4.0, {"lrp"}, _cost),
        worst("DeepLIFT, F", 7.0, {"deeplift"}, _cost),
        worst("memory of a CAM beside a forward pass", 1.1, set(_CAMS), _peak),
        _agreement(session, "captum", "LayerGradCam"),
        _agreement(session, "MONAI", "GradCAM"),
        worst("LRP, residual", 1e-4, {"lrp"}, _residual),
        worst("DeepLIFT, residual", 1e-4, {"deeplift"}, _residual),
        worst("DeepLIFT-SHAP, residual", 1e-4, {"deeplift_shap"}, _residual),
        worst("KernelSHAP, residual", 1e-3, {"kernel_shap"}, _residual),
        _unwarned(every),
        Figure(
            name="CAMs that raised on a classifier",
            allowed=0,
            measured=tuple(
                (float(bool(each.raised)), f"{each.method} on {each.network}")
                for each in cams
                if each.network in _CLASSIFIERS and each.method != "cam"
            ),
        ),
    )


def _cost(record: Record) -> float | None:
    return record.cost


def _peak(record: Record) -> float | None:
    return record.peak


def _residual(record: Record) -> float | None:
    return record.residual


def _picker(records: Sequence[Record]) -> Callable[..., Figure]:
    def worst(
        name: str,
        allowed: float,
        methods: set[str],
        value: Callable[[Record], float | None],
        networks: frozenset[str] = frozenset(MATRIX),
    ) -> Figure:
        found = [
            (measured, f"{each.method} on {each.network}")
            for each in records
            if each.method in methods and each.network in networks
            if (measured := value(each)) is not None
        ]
        return Figure(name=name, allowed=allowed, measured=tuple(found))

    return worst


def _agreement(session: Session, library: str, method: str) -> Figure:
    found = [
        (each.difference, each.network)
        for each in session.of(library, {method})
        if each.difference is not None
    ]
    return Figure(name=f"Grad-CAM, difference to {library}", allowed=1e-5, measured=tuple(found))


def _unwarned(records: Sequence[Record]) -> Figure:
    found = [
        (0.0 if each.warnings else each.residual, each.network)
        for each in records
        if each.method == "integrated_gradients" and each.residual is not None
    ]
    return Figure(
        name="integrated gradients, residual without a warning",
        allowed=0.01,
        measured=tuple(found),
    )


def _shown_cost(record: Record) -> str:
    return f"{record.cost:.2f}" if record.cost is not None else _class_of(record)


def _shown_default(record: Record) -> str:
    if record.default_passes is None or not record.cost or not record.passes:
        return ""
    return f"{record.default_passes * record.cost / record.passes:.0f}"


def _shown_peak(record: Record) -> str:
    return "" if record.peak is None else f"{record.peak:.2f}"


def _shown_residual(record: Record) -> str:
    if record.residual is None:
        return ""
    text = f"{record.residual:.0e}"
    return f"{text} w" if record.warnings and record.residual > 0.01 else text


def _shown_difference(record: Record) -> str:
    return "" if record.difference is None else f"{record.difference:.0e}"


def _shown_batched(record: Record) -> str:
    return "" if record.batched is None else f"{record.batched:.2f}"


_TABLES: tuple[tuple[str, Callable[[Record], str]], ...] = (
    ("cost in forward passes (F); the parameters of docs/explainers-matrix.md", _shown_cost),
    ("at most with the default parameters, by the cost of a pass, in F", _shown_default),
    ("most memory, as a multiple of a forward pass", _shown_peak),
    ("residual of the axiom, relative (w: told in a warning)", _shown_residual),
    ("difference to ours where both are right, relative", _shown_difference),
    ("cost of one image in a batch at half precision, in F", _shown_batched),
)


def _class_of(record: Record) -> str:
    return record.raised.split(":")[0]


def _table(
    session: Session,
    networks: Sequence[str],
    rows: Sequence[tuple[str, str]],
    *,
    title: str,
    cell: Callable[[Record], str],
) -> Table:
    table = Table("", *networks, title=title, title_justify="left", padding=(0, 1, 0, 0))
    for library, method in rows:
        records = [session.records.get((network, library, method)) for network in networks]
        shown = [cell(each) if each else "" for each in records]
        if any(shown):
            table.add_row(f"{library} {method}", *shown)
    if _TABLES[0][0] == title:
        seconds = {each.network: each.forward_seconds for each in session.records.values()}
        table.add_row("F in ms", *(f"{1e3 * seconds[network]:.0f}" for network in networks))
    return table


def _errors(session: Session) -> Table:
    """Return what was raised, each message once."""
    said: dict[tuple[str, str, str], list[str]] = {}
    for each in session.records.values():
        if each.raised:
            said.setdefault((each.library, each.method, each.raised), []).append(each.network)
    table = Table("who", "where", "raises", title="errors", title_justify="left")
    for (library, method, raised), networks in said.items():
        table.add_row(f"{library} {method}", ", ".join(networks), raised)
    return table


def _checks(session: Session) -> Table:
    table = Table("", "asked", "measured", "where", title="acceptance", title_justify="left")
    for figure in figures(session):
        worst = figure.worst
        if worst is None:
            table.add_row(figure.name, f"≤ {figure.allowed:g}", "not measured", "")
            continue
        value, where = worst
        fits = "" if math.isfinite(value) and value <= figure.allowed else " MISSED"
        table.add_row(figure.name, f"≤ {figure.allowed:g}", f"{value:.3g}{fits}", where)
    return table
