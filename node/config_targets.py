"""Which labels the explain entries of routes may name: the models' own, where a file lists them."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from node.config import ExplainSpec
from node.config_files import RawFile
from node.errors import ConfigError
from node.problems import Problem, nearest


def target_problems(routes: RawFile, models: Sequence[RawFile]) -> Iterator[Problem]:
    """Yield each label that a route names and its model does not have, or weighs against itself.

    Labels that only a bundle knows are compared when the model is loaded (``pellucid check``).
    """
    known = {name: labels for file in models for name, labels in _labels(file)}
    entries = routes.tables.get("route")
    for number, entry in enumerate(entries if isinstance(entries, list) else ()):
        if isinstance(entry, dict):
            name = entry.get("name")
            key = f"route[{name if isinstance(name, str) and name else number}]"
            for place, model, explain in _explained(entry):
                yield from _mistakes(explain, known.get(model), model, f"{key}.{place}")


def require_labels(explain: Sequence[ExplainSpec], labels: Sequence[str], model: str) -> None:
    """Refuse entries that name labels which the loaded model does not have.

    Raises
    ------
    ConfigError
        With the label and the nearest that there is.
    """
    for spec in explain:
        against = [] if spec.against is None else [spec.against]
        for label in (*spec.of, *against):
            if label not in labels:
                raise ConfigError(
                    f"{spec.method} is asked about {label!r}: model {model!r} has no such label"
                    f"{nearest(label, labels)}"
                )
        if spec.against in spec.of:
            raise ConfigError(f"{spec.method} is asked why {spec.against!r} and not the same")


def _labels(file: RawFile) -> Iterator[tuple[str, frozenset[str]]]:
    """Yield the model's name and labels if the file lists them, each meaning once."""
    model = file.tables.get("model")
    labels = model.get("labels") if isinstance(model, dict) else None
    if not isinstance(model, dict) or not isinstance(labels, dict):
        return
    codes = [code for code in labels.values() if isinstance(code, dict)]
    meanings = frozenset(str(code.get("meaning")) for code in codes)
    # Channels of one meaning are told apart by the bundle's own names.
    if codes and len(meanings) == len(labels):
        yield str(model.get("name")), meanings


def _explained(entry: Mapping[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield place, model and table of each explain entry of a route that is a table."""
    run = entry.get("run")
    steps = [("", entry)]
    if isinstance(run, list):
        steps = [(f"run[{n}].", step) for n, step in enumerate(run) if isinstance(step, dict)]
    for place, step in steps:
        explain = step.get("explain")
        for number, each in enumerate(explain if isinstance(explain, list) else ()):
            if isinstance(each, dict):
                yield f"{place}explain[{number}]", str(step.get("model")), each


def _mistakes(
    explain: Mapping[str, Any], known: frozenset[str] | None, model: str, key: str
) -> Iterator[Problem]:
    of, against = explain.get("of"), explain.get("against")
    named = [
        (f"{key}.of[{n}]", label) for n, label in enumerate(of if isinstance(of, list) else ())
    ]
    for place, label in [*named, (f"{key}.against", against)]:
        if known is not None and isinstance(label, str) and label not in known:
            what = f"model {model!r} has no label {label!r}{nearest(label, known)}"
            yield Problem(file="routes.toml", key=place, what=what)
    if against is not None and against in [label for _, label in named]:
        what = f"{against!r} is explained, too; expected another label than those of of"
        yield Problem(file="routes.toml", key=f"{key}.against", what=what)
