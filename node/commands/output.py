"""How commands speak: tables for people, JSON for machines, one sentence for a mistake."""

import json
import sys
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table


class MisuseError(Exception):
    """The command cannot do what it was asked; the message says what to ask instead."""


class FindingError(Exception):
    """The command did what it was asked, and what it found is not as it should be."""


def counted(count: int, thing: str) -> str:
    """Return a number of things in words: ``1 image``, ``2 images``."""
    return f"{count} {thing}" if count == 1 else f"{count} {thing}s"


def print_table(title: str, rows: Sequence[Mapping[str, object]], *, empty: str) -> None:
    """Print rows of the same keys as a table, or ``empty`` if there is none."""
    console = Console(soft_wrap=False)
    if not rows:
        console.print(empty)
        return
    table = Table(title=title, title_justify="left")
    for name in rows[0]:
        table.add_column(name.replace("_", " "), overflow="fold")
    for row in rows:
        table.add_row(*(_cell(value) for value in row.values()))
    console.print(table)


def print_text(text: str) -> None:
    """Print text as it is, unless it is empty."""
    if text:
        sys.stdout.write(f"{text}\n")


def print_json(content: object) -> None:
    """Print one JSON document on standard output."""
    sys.stdout.write(json.dumps(content, indent=2, default=str) + "\n")


def progress_bar() -> Progress:
    """Return a progress display on standard error, which leaves standard output to results."""
    console = Console(stderr=True)
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[detail]}"),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    return "" if value is None else str(value).replace("[", "\\[")
