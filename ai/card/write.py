"""From records to the files of a card: JSON, TOML with what is fitted, and the page."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ai.card.cases import KnownCase
from ai.card.document import as_document
from ai.card.examples import draw_examples
from ai.card.page import page_of
from ai.card.reading import Reader
from ai.card.records import CaseRecord
from ai.card.snippet import fitted, write_snippet
from ai.card.summary import Card, Provenance, summarized

JOURNAL = "cases.jsonl"
DOCUMENT = "card.json"
PAGE = "card.html"


def write_card(
    records: tuple[CaseRecord, ...],
    cases: Sequence[KnownCase],
    reader: Reader,
    provenance: Provenance,
    folder: Path,
    *,
    unmatched: Sequence[str] = (),
) -> Card:
    """Write ``card.json``, ``card.toml``, ``card.html`` and what was fitted; return the card."""
    good = tuple(record for record in records if not record.problem)
    card = summarized(records, reader.model, reader.settings, provenance, unmatched=unmatched)
    reliability, why = fitted(good, reader.model)
    if why:
        card = replace(card, unmeasured=(*card.unmeasured, why))
    content = json.dumps(as_document(card), indent=1)
    (folder / DOCUMENT).write_text(content + "\n", encoding="utf-8")
    snippet = write_snippet(card, reliability, folder)
    shown = card.chosen or reader.settings.candidates[0]
    examples = draw_examples(good, cases, shown, reader, folder / "examples")
    page = page_of(card, good, examples, snippet.read_text(encoding="utf-8"))
    (folder / PAGE).write_text(page, encoding="utf-8")
    return card
