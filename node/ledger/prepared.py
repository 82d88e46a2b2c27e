"""Statements that are compiled once: what runs for every image must not be built for every image.

SQLAlchemy's usual way from a statement to the driver costs more than the database itself.
"""

from collections import namedtuple
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from sqlalchemy import (
    Connection,
    Dialect,
    Executable,
    Insert,
    Table,
    bindparam,
    insert,
)
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql.compiler import SQLCompiler

_Process = Callable[[Any], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Compiled:
    text: str
    #: Names of the parameters in the order of their places; None where they have no places.
    order: tuple[str, ...] | None
    #: How values become what the driver takes, by name.
    processes: Mapping[str, _Process]
    #: What a row is, by the names of its columns; None if there are none.
    row: type[Any] | None


def run(connection: Connection, statement: Executable, values: Mapping[str, Any]) -> list[Any]:
    """Return the rows that a statement gives, as named tuples.

    Parameters
    ----------
    statement
        A constant; every value is a ``bindparam`` that names its type. Its columns are text,
        numbers and truths: what comes back is taken as the driver gives it.
    values
        By name of the parameter, all of them.

    Raises
    ------
    DBAPIError
        Without the values.
    """
    compiled = _compiled(statement, connection.dialect)
    given = {
        name: compiled.processes[name](value) if name in compiled.processes else value
        for name, value in values.items()
    }
    placed = given if compiled.order is None else tuple(given[name] for name in compiled.order)
    rows = _executed(connection, compiled.text, placed, has_rows=compiled.row is not None)
    return [] if compiled.row is None else list(map(compiled.row._make, rows))


def run_text(connection: Connection, text: str) -> None:
    """Run a statement without parameters as it is written, past SQLAlchemy.

    Raises
    ------
    DBAPIError
        It failed.
    """
    _executed(connection, text, (), has_rows=False)


def _executed(connection: Connection, text: str, placed: Any, *, has_rows: bool) -> list[Any]:
    cursor = connection.connection.cursor()
    try:
        cursor.execute(text, placed)
        return list(cursor.fetchall()) if has_rows else []
    except connection.dialect.loaded_dbapi.Error as error:
        raise DBAPIError(text, None, error, hide_parameters=True) from error
    finally:
        cursor.close()


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
    columns = [column.name for column in getattr(statement, "selected_columns", ())]
    row = namedtuple("row", columns) if columns else None
    return _Compiled(text=str(compiled), order=order, processes=processes, row=row)
