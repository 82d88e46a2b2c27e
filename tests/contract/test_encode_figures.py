"""The figures of the documents are those of the benchmark, and within what was asked for."""

import json
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
FIGURES = json.loads((ROOT / "benchmarks/results/encode.json").read_text(encoding="utf-8"))


def test_the_table_of_the_document_is_what_was_measured():
    text = (
        (ROOT / "docs/results.md").read_text(encoding="utf-8").split("### What encoding costs")[1]
    )

    rows = dict(re.findall(r"(?m)^\| `([a-z_]+)` \| (.*) \|$", text.split("\n## ")[0]))

    assert rows == {
        name: " | ".join(
            "" if figures[key] is None else f"{figures[key]:.2f}"
            for key in ("seconds", "highdicom_seconds", "ratio")
        )
        for name, figures in FIGURES["objects"].items()
    }


def test_what_was_asked_for_was_met():
    assert {name: each["met"] for name, each in FIGURES["limits"].items()} == dict.fromkeys(
        ("overlay", "report", "measurements", "segmentation + bands"), True
    )
