"""The rules of the house that no linter knows."""

import ast
from pathlib import Path

from node.cli import app

ROOT = Path(__file__).parents[2]
PACKAGES = ("node", "ai", "dicom_io")
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
LONGEST_FUNCTION = 60
LONGEST_FILE = 400

#: The loops and entry points that may catch every error: there it is logged, told or decided.
CATCH_ALL = frozenset(
    {
        "node/cli.py:main",
        "node/completion.py:tick",
        "node/commitment.py:take_report",
        "node/deliver.py:_post",
        "node/deliver.py:_send_batch",
        "node/deliver.py:run",
        "node/inference.py:_answer",
        "node/negotiate.py:_run",
        "node/outcomes.py:tell_next",
        "node/priors.py:find_priors",
        "node/arrival.py:land",
        "node/intake.py:_read_from",
        "node/intake.py:_run",
        "node/keeping.py:taking",
        "node/entries.py:_alone",
        "node/entries.py:_entered",
        "node/recorder.py:_take_large",
        "node/recorder_process.py:recorder_process",
        "node/recovery.py:_staying",
        "node/steps.py:begin",
        "node/store_scp.py:_answer",
        "node/store_scp.py:_run",
        "node/service.py:_swept",
        "node/spawned.py:_life",
        "node/worker.py:_renew_until",
        "node/worker.py:tell_once",
        "node/worker.py:work_once",
    }
)


def named(path):
    return path.relative_to(ROOT).as_posix()


def parsed(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def functions(path):
    return [
        n for n in ast.walk(parsed(path)) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)
    ]


def length(function):
    """Return the lines of a function without its docstring."""
    first, body = function.lineno, function.body
    documented = ast.get_docstring(function, clean=False) is not None
    docstring = body[0].end_lineno - body[0].lineno + 1 if documented else 0
    return function.end_lineno - first + 1 - docstring


def catches_all(function):
    """Return whether a handler of this function itself catches all and keeps it."""
    nested = [n for n in ast.walk(function) if isinstance(n, ast.FunctionDef) and n is not function]
    inner = {node for each in nested for node in ast.walk(each)}
    return any(
        isinstance(node, ast.ExceptHandler)
        and (node.type is None or ast.unparse(node.type) in {"Exception", "BaseException"})
        and ast.unparse(node.body[-1]) != "raise"
        for node in ast.walk(function)
        if node not in inner
    )


def test_no_file_is_longer_than_a_reader_can_hold():
    lines = {named(path): len(path.read_text(encoding="utf-8").splitlines()) for path in SOURCES}

    assert {name: count for name, count in lines.items() if count > LONGEST_FILE} == {}


def test_no_function_is_longer_than_a_screen():
    lengths = {
        f"{named(path)}:{function.name}": length(function)
        for path in SOURCES
        for function in functions(path)
    }

    assert {name: count for name, count in lengths.items() if count > LONGEST_FUNCTION} == {}


def test_nothing_is_global():
    found = [
        f"{named(path)}:{node.lineno}"
        for path in SOURCES
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Global)
    ]

    assert found == []


def test_a_package_says_its_purpose_in_one_sentence_and_holds_nothing_else():
    packages = {named(p): parsed(p) for p in SOURCES if p.name == "__init__.py"}

    said_more = [name for name, tree in packages.items() if len(tree.body) != 1]
    said = {name: ast.get_docstring(tree) or "" for name, tree in packages.items()}
    unsaid = [name for name, text in said.items() if not text.endswith(".")]

    assert (said_more, unsaid) == ([], [])


def test_every_folder_of_sources_is_a_package():
    folders = {path.parent for path in SOURCES}

    assert [named(folder) for folder in folders if not (folder / "__init__.py").exists()] == []


def test_only_loops_and_entry_points_catch_every_error():
    found = {
        f"{named(path)}:{function.name}"
        for path in SOURCES
        for function in functions(path)
        if catches_all(function)
    }

    assert found == CATCH_ALL


def commands(app):
    """Yield every command of a typer application and of those in it: words, function, help."""
    for command in app.registered_commands:
        name = command.name or command.callback.__name__
        yield (name,), command.callback
    for group in app.registered_groups:
        for words, callback in commands(group.typer_instance):
            yield (group.name, *words), callback


def test_every_command_has_help_with_an_example():
    lacking = [
        " ".join(words)
        for words, callback in commands(app)
        if "Example" not in (callback.__doc__ or "")
    ]

    assert lacking == []
