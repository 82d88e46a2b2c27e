"""``pellucid explainers``: what every method shows, needs and costs, and how to ask for it."""

import inspect
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import MISSING, dataclass, field, fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any

from dicom_io.codes import Code, method_code, method_name
from node.commands.output import MisuseError, counted, progress_bar
from node.plugins import (
    EXPLAINERS,
    PluginError,
    default_of,
    explainer_class,
    load_explainer,
    names,
    provider,
)
from node.problems import nearest

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ai.settings import ModelSettings

_SIZE = re.compile(r"\d{1,5}(x\d{1,5}){1,2}")
#: The end of a sentence; "(Jiang et al. 2021)" is none.
_SENTENCE_END = re.compile(r"(?<=[^l]\.)\s+(?=[A-Z])")
#: What a plug-in of others need not say.
_UNSAID = "not stated"


@dataclass(frozen=True, slots=True, kw_only=True)
class ParameterLine:
    """One parameter of a method."""

    name: str
    #: As TOML writes it; empty where it must be set or nothing stands for it.
    default: str
    #: The comment beside it in the source; empty where there is none or no source.
    meaning: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """What is known of one method."""

    method: str
    #: What people call it.
    called: str
    #: All that its author says of it.
    text: str = ""
    needs: str = _UNSAID
    passes: str = _UNSAID
    parameters: tuple[ParameterLine, ...] = ()
    #: What result objects call it.
    concept: Code
    #: Distribution and version that it comes from.
    provider: str = ""
    #: Why it cannot be used at all; empty if it can.
    broken: str = ""
    #: What it takes on the network that was asked about, or why it does not work there.
    estimate: dict[str, object] = field(default_factory=dict)

    @property
    def shows(self) -> str:
        """The first sentence of its description."""
        paragraph = " ".join(self.text.partition("\n\n")[0].split())
        return _SENTENCE_END.split(paragraph)[0] or "no description"


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """A network, and an input of the size that is asked about."""

    network: "nn.Module"
    x: "Tensor"


def described_explainers(
    chosen: Sequence[str], setting: Setting | None = None
) -> tuple[Described, ...]:
    """Return what is known of each method, with what it costs in a setting if one is given."""
    with progress_bar() as bar:
        task = bar.add_task("reading the methods", total=len(chosen), detail="")
        return tuple(_described(name, setting) for name in bar.track(chosen, task_id=task))


def described_class(name: str, kind: type[Any]) -> Described:
    """Return what a method's class says of itself; a plug-in of others need not say much."""
    return Described(
        method=name,
        called=method_name(name),
        text=_description(kind),
        needs=str(getattr(kind, "needs", _UNSAID)),
        passes=str(getattr(kind, "passes", _UNSAID)),
        parameters=tuple(_parameters(kind)),
        concept=method_code(name),
    )


def chosen_names(name: str | None) -> tuple[str, ...]:
    """Return the names of all methods, or the one that is asked for.

    Raises
    ------
    MisuseError
        There is no such method; the message names the nearest.
    """
    known = names(EXPLAINERS)
    if name is None:
        return known
    if name not in known:
        raise MisuseError(f"there is no explainer {name!r}{nearest(name, known)}")
    return (name,)


def setting_of(model: "ModelSettings", size: str | None) -> Setting:
    """Return a model's network with an input of ``size``: extents as ``96x96x96``.

    Raises
    ------
    MisuseError
        The size is missing, or is none; the network takes images of another number of axes.
    ModelUnavailableError
        The model cannot be loaded.
    """
    if size is None or not _SIZE.fullmatch(size):
        given = "" if size is None else f"--size {size}: "
        raise MisuseError(f"{given}say by --size how large an image is, as 96x96x96 or 512x512")
    from ai.errors import ExplanationError
    from ai.estimate import example_input
    from node.plugins import load_model

    network = load_model(model).network
    try:
        x = example_input(network, [int(extent) for extent in size.split("x")])
    except ExplanationError as error:
        raise MisuseError(f"--size {size}: {error}") from error
    return Setting(network=network, x=x)


def explainer_rows(found: Sequence[Described]) -> list[dict[str, object]]:
    """Return one row for each method; what does not load says so in the place of its description.

    Beside a network, what it needs and costs in general gives way to what it costs there.
    """
    somewhere = any(each.estimate for each in found)
    column = "costs here" if somewhere else "needs of the network, and costs"
    return [
        {
            "method": each.method,
            "what it shows, and its parameters": each.broken or _with_parameters(each),
            column: "" if each.broken else _here(each) or f"{each.needs}\n{each.passes}",
        }
        for each in found
    ]


def as_json(each: Described) -> dict[str, Any]:
    """Return all that is known of a method."""
    return {
        "method": each.method,
        "called": each.called,
        "shows": each.shows,
        "text": each.text,
        "needs": each.needs,
        "passes": each.passes,
        "parameters": [
            {"name": line.name, "default": line.default, "meaning": line.meaning}
            for line in each.parameters
        ],
        "code": f"{each.concept.value} ({each.concept.scheme}): {each.concept.meaning}",
        "provider": each.provider,
        "broken": each.broken,
        "estimate": each.estimate or None,
        "route": route_snippet(each),
    }


def detail_text(each: Described) -> str:
    """Return one method in full, for a person: description, needs, costs and how to ask for it."""
    concept = each.concept
    lines = [
        f"{each.method}: {each.called}",
        "",
        each.broken or each.text.replace("``", "") or "no description",
        "",
        f"needs        {each.needs}, of the network",
        f"costs        {each.passes}",
        *([f"costs here   {_here(each)}"] if each.estimate else []),
        f"in objects   {each.called}, {concept.value} ({concept.scheme}) {concept.meaning}",
        f"comes from   {each.provider}",
        "",
        "In a route, or in one entry of its run; what is left out keeps its default:",
        f"  {route_snippet(each)}",
        "On the command line:",
        f"  pellucid analyze FOLDER --model NAME --out DIR --explain {_option(each)}",
    ]
    return "\n".join(lines)


def parameter_rows(each: Described) -> list[dict[str, object]]:
    """Return one row for each parameter of a method."""
    return [
        {"parameter": line.name, "default": line.default, "meaning": line.meaning}
        for line in each.parameters
    ]


def route_snippet(each: Described) -> str:
    """Return the line of a route that asks for the method, with its parameters as they are."""
    pairs = [f"method = {json.dumps(each.method)}"]
    pairs += [f"{line.name} = {line.default}" for line in each.parameters if line.default]
    return f"explain = [{{ {', '.join(pairs)} }}]"


def _option(each: Described) -> str:
    plain = [line for line in each.parameters if line.default and line.default[0] not in '["']
    quoted = [line for line in each.parameters if line.default.startswith('"')]
    shown = (*quoted, *plain)[:1]
    values = [f"{line.name}={line.default.strip(chr(34))}" for line in shown]
    return f"{each.method}:{','.join(values)}" if values else each.method


def _described(name: str, setting: Setting | None) -> Described:
    try:
        found = described_class(name, explainer_class(name))
    except PluginError as error:
        concept = method_code(name)
        return Described(method=name, called=method_name(name), concept=concept, broken=str(error))
    estimate = {} if setting is None else _estimate(name, setting)
    return replace(found, provider=provider(EXPLAINERS, name), estimate=estimate)


def _description(kind: type[Any]) -> str:
    """Return the class's own docstring; what ``dataclass`` writes in its place is none."""
    text = inspect.cleandoc(kind.__doc__ or "")
    return "" if text.startswith(f"{kind.__name__}(") else text


def _parameters(kind: type[Any]) -> Iterator[ParameterLine]:
    comments = _comments(kind)
    for each in fields(kind):
        if each.init:
            default = default_of(each)
            yield ParameterLine(
                name=each.name,
                default="" if default is MISSING or default is None else _toml(default),
                meaning=comments.get(each.name, "").replace("``", ""),
            )


def _toml(default: object) -> str:
    return json.dumps(default, default=str)


def _comments(kind: type[Any]) -> dict[str, str]:
    """Return what stands as ``#:`` above each field, in the class and what it inherits from."""
    found: dict[str, str] = {}
    for each in reversed(kind.__mro__):
        if not is_dataclass(each):
            continue
        try:
            lines = inspect.getsource(each).splitlines()
        except (OSError, TypeError):
            continue  # no source beside the bytecode
        told: list[str] = []
        for line in lines:
            text = line.strip()
            if text.startswith("#:"):
                told.append(text.removeprefix("#:").strip())
                continue
            name = re.match(r"(\w+)\s*:", text)
            if told and name is not None:
                found[name[1]] = " ".join(told)
            told = []
    return found


def _estimate(name: str, setting: Setting) -> dict[str, object]:
    from ai.errors import ExplanationError
    from ai.estimate import estimated_cost

    try:
        cost = estimated_cost(load_explainer(name, {}), setting.network, setting.x)
    except (ExplanationError, PluginError) as error:
        return {"applicable": False, "why": str(error)}
    return {
        "applicable": True,
        "forwards": cost.forwards,
        "backwards": cost.backwards,
        "peak_bytes": cost.peak_bytes,
    }


def _with_parameters(each: Described) -> str:
    shown = ", ".join(f"{line.name}={_brief(line)}" for line in each.parameters)
    return f"{each.shows}\n{shown}" if shown else each.shows


def _brief(line: ParameterLine) -> str:
    if line.name.endswith("_bytes") and line.default.isdecimal():
        from ai.limits import memory_text

        return memory_text(int(line.default))
    return line.default or "?"


def _here(each: Described) -> str:
    """Return what a method takes on the network that was asked about; empty if none was."""
    from ai.limits import memory_text

    estimate: dict[str, Any] = each.estimate
    if not estimate:
        return ""
    if not estimate["applicable"]:
        return f"not applicable: {estimate['why']}"
    words = [f"at most {_passes(estimate['forwards'], 'forward')}"]
    if estimate["backwards"]:
        words.append(_passes(estimate["backwards"], "backward"))
    if estimate["peak_bytes"]:
        words.append(memory_text(estimate["peak_bytes"]))
    return ", ".join(words)


def _passes(count: float, kind: str) -> str:
    return f"{count:.2f}".rstrip("0").rstrip(".") + f" {kind}"


def broken_text(found: Sequence[Described]) -> str:
    """Return in one sentence how many methods do not load; empty if all do."""
    count = sum(bool(each.broken) for each in found)
    return f"{counted(count, 'method')} cannot be used" if count else ""
