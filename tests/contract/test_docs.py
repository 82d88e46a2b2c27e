"""What the documents claim of commands, settings and files is so."""

import re
import shlex
from pathlib import Path

import pytest
from typer.main import get_command

from node.cli import app
from node.config_peers import NodeFile
from node.config_schema import ExplainTable, ModelFile, RoutesFile
from node.config_types import Table

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted(
    path
    for path in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"))
    if path.name != "LICENSE.md"
)
CONFIGURATION = ROOT / "docs" / "configuration.md"


def named(path):
    return path.relative_to(ROOT).as_posix()


def command_lines(text):
    """Yield every ``pellucid ...`` in a code span or a code block."""
    blocks = re.findall(r"```[a-z]*\n(.*?)```", text, re.DOTALL)
    spans = re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    lines = [line.removeprefix("$ ") for block in blocks for line in block.splitlines()]
    for line in (*lines, *spans):
        words = re.sub(r"\s+#.*$", "", line.strip()).removeprefix(".venv/bin/")
        if re.match(r"pellucid( |$)", words):
            yield words


def unknown_words(line):
    """Return the command words and options of a line that the command line does not have."""
    command, options = get_command(app), set()
    unknown, done = [], False
    for word in shlex.split(re.split(r"[|>&;]", line)[0])[1:]:
        options |= {name for parameter in command.params for name in parameter.opts}
        if word.startswith("-"):
            unknown += [] if word.split("=")[0] in options else [word]
        elif not done and hasattr(command, "commands"):
            unknown += [] if word in command.commands else [word]
            command = command.commands.get(word, command)
        else:
            done = True
    return [word for word in unknown if word not in {"...", "--help", "-h"}]


def keys(table, path=""):
    """Yield the dotted path of every key of the configuration, as the document writes it."""
    for name, info in table.model_fields.items():
        key = f"{path}.{info.alias or name}".lstrip(".")
        inner = table_in(info.annotation)
        if inner is None or key in {"route.explain", "route.run", "model.labels"}:
            yield key
            yield from keys(ExplainTable, key) if inner is ExplainTable else ()
        else:
            yield from keys(inner, f"{key}.NAME" if key == "peers" else key)


def table_in(annotation):
    if isinstance(annotation, type) and issubclass(annotation, Table):
        return annotation
    inner = (table_in(argument) for argument in getattr(annotation, "__args__", ()))
    return next((table for table in inner if table is not None), None)


def test_every_module_of_the_map_exists_and_the_two_pure_rooms_are_all_on_it():
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    table = text.split("## Where things live")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (`.*?) \| (.*) \|$", table, re.MULTILINE)
    placed = [
        (folder, name)
        for place, modules in rows
        for folder in re.findall(r"`([a-z_/]+/)`", place)
        for name in re.findall(r"`([a-z0-9_]+)`", modules)
    ]
    known = {
        path.stem for room in ("node", "ai", "dicom_io") for path in (ROOT / room).rglob("*.py")
    }
    told = {f"{folder}{name}.py" for folder, name in placed}
    pure = {
        named(path)
        for room in ("ai", "dicom_io")
        for path in (ROOT / room).rglob("*.py")
        if path.stem != "__init__" and path.parent.name != "phantom"
    }

    assert [name for _, name in placed if name not in known] == []
    assert sorted(pure - told) == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=named)
def test_every_command_that_a_document_shows_exists(document):
    lines = list(command_lines(document.read_text(encoding="utf-8")))

    wrong = {line: words for line in lines if (words := unknown_words(line))}

    assert wrong == {}


@pytest.mark.parametrize("document", DOCUMENTS, ids=named)
def test_every_file_that_a_document_links_to_exists(document):
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", document.read_text(encoding="utf-8"))
    local = [link for link in links if not re.match(r"[a-z]+:", link)]

    assert [link for link in local if not (document.parent / link).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=named)
def test_every_make_target_that_a_document_shows_exists(document):
    shown = set(re.findall(r"`make ([a-z-]+)`", document.read_text(encoding="utf-8")))
    targets = set(re.findall(r"(?m)^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8")))

    assert shown - targets == set()


@pytest.mark.parametrize("schema", [NodeFile, RoutesFile, ModelFile])
def test_every_key_of_the_configuration_is_described(schema):
    text = CONFIGURATION.read_text(encoding="utf-8")

    assert [key for key in keys(schema) if f"| `{key}` |" not in text] == []


def test_every_key_that_is_described_exists():
    described = re.findall(r"(?m)^\| `([a-z_.A-Z0-9]+)` \|", CONFIGURATION.read_text("utf-8"))
    known = {key for schema in (NodeFile, RoutesFile, ModelFile) for key in keys(schema)}

    assert set(described) - known - {"peers.NAME"} == set()
