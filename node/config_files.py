"""The files of a configuration folder as raw tables, and their mistakes in an admin's words."""

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from node.config_types import Known, Table
from node.problems import Problem, nearest

_REFERENCE = re.compile(r"\$\{([^}:]*)(?::([^}]*))?\}")
_T = TypeVar("_T", bound=Table)
_Loc = tuple[str | int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RawFile:
    """One file, parsed, with its references filled in."""

    name: str
    tables: dict[str, Any]
    #: Places whose text came from ``${...}``, with the reference: what is secret is not repeated.
    filled: Mapping[_Loc, str] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
    #: Whether the file could be parsed at all.
    readable: bool = True


def read_file(path: Path, name: str, *, environment: Mapping[str, str]) -> RawFile:
    """Return the tables of one TOML file; an unreadable one is a problem, never an exception.

    Parameters
    ----------
    name
        What problems call the file: its path within the configuration folder.
    environment
        What ``${env:NAME}`` may name.
    """
    try:
        text = path.read_text(encoding="utf-8")
        tables = tomllib.loads(text)
    except OSError as error:
        return _unreadable(name, f"cannot be read: {error.strerror}")
    except UnicodeDecodeError as error:
        return _unreadable(name, f"is not UTF-8 at byte {error.start}")
    except tomllib.TOMLDecodeError as error:
        return _unreadable(name, f"is not valid TOML: {error}")
    filled: dict[_Loc, str] = {}
    problems: list[Problem] = []
    for loc, parent, value in list(_texts(tables, ())):
        replaced, mistakes = _substituted(value, environment, path.parent)
        problems += [_problem(name, loc, tables, what) for what in mistakes]
        if replaced != value:
            parent[loc[-1]] = replaced
            filled[loc] = value
    return RawFile(name=name, tables=tables, filled=filled, problems=tuple(problems))


def validated(raw: RawFile, schema: type[_T], known: Known) -> tuple[_T | None, list[Problem]]:
    """Return the file as ``schema``, or None, and every mistake in it."""
    if not raw.readable:
        return None, list(raw.problems)
    try:
        return schema.model_validate(raw.tables, context=known), list(raw.problems)
    except ValidationError as error:
        found = [_told(details, raw, schema) for details in error.errors(include_url=False)]
        return None, [*raw.problems, *found]


def key_path(loc: _Loc, tables: object) -> str:
    """Return a place as an administrator would say it: ``route[head-t1].send_to[0]``.

    Entries of a list of tables are named by their ``name``, if they have one.
    """
    path, here = "", tables
    for part in loc:
        here = _child(here, part)
        name = here.get("name") if isinstance(part, int) and isinstance(here, Mapping) else None
        if isinstance(part, int):
            path += f"[{name if isinstance(name, str) and name else part}]"
        elif part != "[key]":
            path += f".{part}" if path else part
    return path


def _unreadable(name: str, what: str) -> RawFile:
    problem = Problem(file=name, key="", what=what)
    return RawFile(name=name, tables={}, problems=(problem,), readable=False)


def _texts(here: Any, loc: _Loc) -> Iterator[tuple[_Loc, Any, str]]:
    """Yield place, container and value of every text."""
    entries = here.items() if isinstance(here, dict) else enumerate(here)
    for part, value in entries:
        if isinstance(value, str):
            yield (*loc, part), here, value
        elif isinstance(value, dict | list):
            yield from _texts(value, (*loc, part))


def _substituted(text: str, names: Mapping[str, str], folder: Path) -> tuple[str, list[str]]:
    mistakes: list[str] = []

    def fill(match: re.Match[str]) -> str:
        kind, argument = match.group(1), match.group(2) or ""
        if kind == "env" and argument in names:
            return names[argument]
        if kind == "env":
            mistakes.append(f"the environment has no variable {argument!r}")
        elif kind == "file":
            try:
                return (folder / argument).read_text(encoding="utf-8").strip()
            except (OSError, UnicodeDecodeError) as error:
                reason = getattr(error, "strerror", None) or "it is not UTF-8"
                mistakes.append(f"file {argument!r} cannot be read: {reason}")
        else:
            mistakes.append(f"{match.group(0)!r} is neither ${{env:NAME}} nor ${{file:path}}")
        return match.group(0)

    return _REFERENCE.sub(fill, text), mistakes


def _problem(file: str, loc: _Loc, tables: object, what: str) -> Problem:
    return Problem(file=file, key=key_path(loc, tables), what=what)


def _told(details: ErrorDetails, raw: RawFile, schema: type[Table]) -> Problem:
    """Return one of pydantic's errors in an administrator's words."""
    loc = details["loc"]
    table, expected = _described(schema, loc)
    if details["type"] == "extra_forbidden":
        what = _unknown_key(str(loc[-1]), table)
    elif details["type"] == "missing":
        what = "is missing"
    elif loc in raw.filled:
        what = f"the value of {raw.filled[loc]} is not accepted"
    elif details["type"] == "value_error":
        what = details["msg"].removeprefix("Value error, ")
    else:
        what = f"{_shown(details['input'])} is not accepted"
    if expected and details["type"] != "extra_forbidden" and not what.startswith("there is no "):
        what = f"{what}; expected {expected}"
    return _problem(raw.name, loc, raw.tables, what)


def _unknown_key(key: str, table: type[Table]) -> str:
    if key in table.later:
        return "is not available in this version; remove it"
    known = [info.alias or name for name, info in table.model_fields.items()]
    return f"unknown key{nearest(key, known)}"


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _described(schema: type[Table], loc: _Loc) -> tuple[type[Table], str]:
    """Return the innermost table that ``loc`` lies in, and what the key in it should be."""
    table, expected = schema, ""
    path = loc[:-2] if loc[-1] == "[key]" else loc
    for part in path:
        by_alias = {info.alias or name: info for name, info in table.model_fields.items()}
        info = by_alias.get(part) if isinstance(part, str) else None
        if info is None:
            continue
        expected = info.description or expected
        inner = _table_in(info.annotation)
        if inner is not None and part != path[-1]:
            table, expected = inner, ""
    return table, expected


def _table_in(annotation: object) -> type[Table] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation if issubclass(annotation, Table) else None
    inner = (_table_in(argument) for argument in get_args(annotation))
    return next((table for table in inner if table is not None), None)


def _child(here: object, part: str | int) -> object:
    if isinstance(here, Mapping):
        return here.get(part)
    if isinstance(here, list) and isinstance(part, int) and part < len(here):
        return here[part]
    return None
