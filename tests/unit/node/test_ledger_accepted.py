"""What destinations take: learnt, kept, contradicted."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select

from node.ledger import accepted, schema
from node.ledger.engine import reading

NOW = datetime(2026, 1, 2, tzinfo=UTC)
EXPLICIT = "1.2.840.10008.1.2.1"


@pytest.fixture
def engine(ledger):
    return ledger


def audited(engine) -> list[tuple[str, dict]]:
    query = select(schema.audit.c.event, schema.audit.c.detail).order_by(schema.audit.c.id)
    with reading(engine) as connection:
        return [(row.event, row.detail) for row in connection.execute(query)]


def test_nothing_is_known_of_who_was_never_asked(engine):
    assert accepted.known(engine, ["pacs"]) == {}


def test_what_was_learnt_is_known(engine):
    accepted.learn(engine, "pacs", {"1.2": [EXPLICIT], "1.3": []}, NOW)

    found = accepted.known(engine, ["pacs", "other"])

    assert list(found) == ["pacs"]
    assert found["pacs"].learnt == NOW
    assert found["pacs"].takes("1.2", [EXPLICIT])
    assert not found["pacs"].takes("1.3", [EXPLICIT])
    assert found["pacs"].takes("1.4", [EXPLICIT])


def test_learning_anew_takes_the_place_of_what_was_known(engine):
    accepted.learn(engine, "pacs", {"1.2": [], "1.3": []}, NOW)

    accepted.learn(engine, "pacs", {"1.2": [EXPLICIT]}, NOW + timedelta(days=1))

    found = accepted.known(engine, ["pacs"])["pacs"]
    assert found.syntaxes == {"1.2": (EXPLICIT,)}
    assert found.learnt == NOW + timedelta(days=1)


def test_refused_sop_classes_are_audited_when_they_are_news(engine):
    first = accepted.learn(engine, "pacs", {"1.2": [], "1.3": [EXPLICIT]}, NOW)
    again = accepted.learn(engine, "pacs", {"1.2": [], "1.3": [EXPLICIT]}, NOW)

    assert (first, again) == (("1.2",), ())
    assert audited(engine) == [
        ("sop_class_refused", {"destination": "pacs", "sop_class_uid": "1.2"})
    ]


def test_who_contradicts_itself_is_believed_and_asked_again(engine):
    accepted.learn(engine, "pacs", {"1.2": [EXPLICIT], "1.3": [EXPLICIT]}, NOW)

    with engine.begin() as connection:
        accepted.contradict(connection, "pacs", "1.2")

    found = accepted.known(engine, ["pacs"])["pacs"]
    assert not found.takes("1.2", [EXPLICIT])
    assert found.takes("1.3", [EXPLICIT])
    assert found.learnt < NOW
