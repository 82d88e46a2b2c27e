"""A receiver that is sent mutated PDUs: it lives, stays small, and acknowledges only what it keeps.

``PELLUCID_FUZZ_SEED`` chooses the cases; a seed that is not given is printed. Cases of a batch that
goes wrong are written to ``build/fuzz``.
"""

import os
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.fault.fuzzing import fragmented, make_case, play, record, sent_datasets
from tests.fault.kept import known_datasets

BATCH = 50
AT_ONCE = 8
WRITTEN = Path(__file__).parents[2] / "build" / "fuzz"


@pytest.fixture
def seed():
    given = os.environ.get("PELLUCID_FUZZ_SEED")
    chosen = int(given) if given else random.SystemRandom().randrange(1 << 31)
    print(f"PELLUCID_FUZZ_SEED={chosen}")  # noqa: T201 (pytest shows it when the test fails)
    return chosen


def test_150_mutated_exchanges(target, seed):
    fuzz(target, seed, count=150)


@pytest.mark.fault
def test_2000_mutated_exchanges(target, seed):
    fuzz(target, seed, count=2000)


def fuzz(target, seed, *, count):
    exchanges = [record(target.port), fragmented()]
    stored = 0
    for first in range(0, count, BATCH):
        cases = [make_case(seed, number, exchanges) for number in range(first, first + BATCH)]
        try:
            stored += check(target, cases)
        except BaseException:
            write(seed, cases)
            raise

    assert stored > count / 50, "the cases are broken so much that nothing was ever stored"
    assert target.now.memory_mb <= target.before.memory_mb + 80
    target.has_nothing_left_over()


def check(target, cases):
    """Play the cases; return how many instances were acknowledged, all of them stored."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        sources = [f"127.0.1.{case.number % 200 + 1}" for case in cases]
        answers = list(pool.map(play, cases, [target.port] * len(cases), sources))
    assert target.alive
    target.serves()
    assert [one.case.number for one in answers if not one.closed] == []
    known = known_datasets(target.data)
    lost = [
        one.case.number
        for one in answers
        for message in one.stored
        if not sent_datasets(one.case.content).get(message, set()) & known
    ]
    assert lost == [], "acknowledged and not stored as sent"
    return sum(len(one.stored) for one in answers)


def write(seed, cases):
    WRITTEN.mkdir(parents=True, exist_ok=True)
    for case in cases:
        (WRITTEN / f"{seed}-{case.number}.bin").write_bytes(case.content)
