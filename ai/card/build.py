"""The way from known cases to their records: one after the other, kept at once, resumed."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ai.card.cases import CardSettings, Depth, KnownCase
from ai.card.journal import append, key_of, read_journal
from ai.card.reading import Reader, read_case
from ai.card.records import CaseRecord
from ai.errors import InvalidOutputError, UnsuitableInputError
from dicom_io.errors import DicomInputError

#: Told of each case: how many are done, its record, and whether it was there before.
Report = Callable[[int, CaseRecord, bool], None]


def read_cases(
    cases: Sequence[KnownCase], reader: Reader, journal: Path, *, report: Report
) -> tuple[CaseRecord, ...]:
    """Return a record of every case, from the journal where it was read before.

    A case that cannot be used has a record that says why; it is tried again the next time. One
    volume and one map are in memory at a time.
    """
    known = read_journal(journal)
    weights = reader.model.card.weights_sha256
    records = []
    for number, (case, depth) in enumerate(depths(cases, reader.settings), start=1):
        key = key_of(case, depth, reader.settings, weights)
        record = known.get(key)
        is_known = record is not None and not record.problem
        if record is None or record.problem:
            record = _attempt(case, key, depth, reader)
            append(journal, record)
        records.append(record)
        report(number, record, is_known)
    return tuple(records)


def depths(
    cases: Sequence[KnownCase], settings: CardSettings
) -> tuple[tuple[KnownCase, Depth], ...]:
    """Return the cases, each with how closely it is looked at: the same cases each time.

    Closely looked at are some of those whose place is known, drawn by the seed; then others.
    """
    order = np.random.default_rng(settings.seed).permutation(len(cases))
    ranked = sorted(order.tolist(), key=lambda index: not _is_placed(cases[index]))
    curves = set(ranked[: settings.curve_cases])
    randomized = set(ranked[: settings.randomized_cases]) if settings.passes else set()
    return tuple(
        (case, Depth(curves=index in curves, randomized=index in randomized))
        for index, case in enumerate(cases)
    )


def _is_placed(case: KnownCase) -> bool:
    return bool(case.files) and False not in case.labels.values()


def _attempt(case: KnownCase, key: str, depth: Depth, reader: Reader) -> CaseRecord:
    try:
        return read_case(case, key, depth, reader)
    except (DicomInputError, UnsuitableInputError, InvalidOutputError) as error:
        return replace(CaseRecord(key=key, case=case.name), problem=str(error))
