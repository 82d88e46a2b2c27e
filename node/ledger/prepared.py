"""Statements that are compiled once: what runs for every image must not be built for every image.

SQLAlchemy's usual way from a statement to the driver costs more than the database itself.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from sqlalchemy import (
    Connection,
    CursorResult,
    Dialect,
    Executable,
    Insert,
    Table,
    bindparam,
    insert,
)
from sqlalchemy.sql.compiler import SQLCompiler

_Process = Callable[[Any], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Compiled:
    text: str
    #: Names of the parameters in the order of their places; None where they have no places.
    order: tuple[str, ...] | None
    #: How values become what the driver takes, by name.
    processes: Mapping[str, _Process]


def run(
    connection: Connection, statement: Executable, values: Mapping[str, Any]
) -> CursorResult[Any]:
    """Return what a statement gives.

    Parameters
    ----------
    statement
        A constant; every value is a ``bindparam`` that names its type.
    values
        By name of the parameter, all of them.
    """
    compiled = _compiled(statement, connection.dialect)
    given = {
        name: compiled.processes[name](value) if name in compiled.processes else value
        for name, value in values.items()
    }
    if compiled.order is None:
        return connection.exec_driver_sql(compiled.text, given)
    return connection.exec_driver_sql(compiled.text, tuple(given[name] for name in compiled.order))


def all_columns(table: Table, *names: str) -> Insert:
    """Return the statement that inserts a row of these columns, given by their names."""
    values = {name: bindparam(name, type_=table.c[name].type) for name in names}
    return insert(table).values(values).inline()


@cache
def _compiled(statement: Executable, dialect: Dialect) -> _Compiled:
    compiled = statement.compile(dialect=dialect)  # type: ignore[attr-defined]
    if not isinstance(compiled, SQLCompiler):
        raise TypeError(f"{type(statement).__name__} is no statement with parameters")
    processes = {
        name: process
        for name, parameter in compiled.binds.items()
        if (process := parameter.type.dialect_impl(dialect).bind_processor(dialect)) is not None
    }
    order = None if compiled.positiontup is None else tuple(compiled.positiontup)
    return _Compiled(text=str(compiled), order=order, processes=processes)
