"""Where ``ingest.strict`` is false, what contradicts itself is kept, marked and never analyzed."""

from dataclasses import replace

import pytest

from dicom_io.errors import NonConformantError
from dicom_io.select import ANY_IMAGE, select_series
from dicom_io.study import group_studies
from node.ledger import instances, nonconformance
from node.ledger.engine import open_ledger
from tests.build_ledger import ledger_url
from tests.fault.conftest import target_with
from tests.fault.hostile_corpus import STUDY, UID, Hostile, corpus, element, identity
from tests.fault.kept import known_datasets
from tests.fault.test_hostile_corpus import LARGE, sent

#: Warning of PS3.4 Table B.2-1: the data set does not match its SOP class.
KEPT_AS_IT_IS = 0xB007


def apart(case, number):
    """Return a case as an instance and a study of its own, in as many bytes."""
    changes = ((UID, f"1.2.3.{number}"), (STUDY, f"1.{number}"))
    content = case.content
    for old, new in changes:
        content = content.replace(f"{old}\0".encode(), f"{new}\0".encode())
    uid = f"1.2.3.{number}" if case.uid == UID else case.uid
    return replace(case, content=content, uid=uid)


CASES = {case.name: apart(case, number) for number, case in enumerate(corpus(), start=100)}
NO_CHARACTERS = "the Specific Character Set (0008,0005) cannot be read"


def is_kept(case):
    """Say that it names itself before it contradicts itself, or in characters of no known set."""
    names_itself = f"{case.uid}\0".encode() in case.content
    return (case.error is not None or "character set" in case.name) and names_itself


DAMAGED = [
    pytest.param(name, marks=pytest.mark.fault) if len(case.content) > LARGE else name
    for name, case in CASES.items()
    if case.status == 0xC000 and is_kept(case)
]
OTHERS = [name for name, case in CASES.items() if case.status != 0xC000 or not is_kept(case)]


@pytest.fixture(scope="module")
def lenient(tmp_path_factory):
    with target_with(tmp_path_factory.mktemp("receiver") / "data", strict=False) as one:
        yield one


@pytest.fixture
def engine(lenient):
    engine = open_ledger(ledger_url(lenient.data))
    yield engine
    engine.dispose()


def study_of(case):
    return f"1.{case.uid.rpartition('.')[2]}"


def test_most_of_the_corpus_says_whose_and_which_it_is():
    assert len(DAMAGED) > 90
    assert {CASES[name].status for name in OTHERS} == {0x0000, 0x0117, 0xA900, 0xC000}


@pytest.mark.parametrize("name", DAMAGED)
def test_what_contradicts_itself_is_kept_as_it_is_and_refused_to_every_route(lenient, engine, name):
    case = CASES[name]

    assert sent(lenient, case) == KEPT_AS_IT_IS

    assert case.content in known_datasets(lenient.data)
    (found,) = nonconformance.damaged(engine, study_of(case))
    assert (case.error or NO_CHARACTERS) in found.reason
    (study,) = group_studies(instances.of_study(engine, study_of(case)))
    with pytest.raises(NonConformantError, match="1 of 1 images are damaged"):
        select_series(study, ANY_IMAGE)


@pytest.mark.parametrize("name", OTHERS)
def test_everything_else_is_answered_as_ever(lenient, engine, name):
    case = CASES[name]

    assert sent(lenient, case) == case.status

    assert nonconformance.damaged(engine, study_of(case)) == ()


CUT = element(0x00280010, "US", b"\4\0")[:5]
WITHOUT_A_NAME = {
    **{
        f"no {name}": (identity(**{name: None}) + CUT, UID, 0xC000)
        for name in ("sop_class", "uid", "study", "series")
    },
    "cut before the study": (identity(study=None, series=None) + CUT + identity(), UID, 0xC000),
    "another uid": (identity() + CUT, "1.2.3.4.9", 0xA900),
    "a study that is no UID": (identity(study="1.2.x") + CUT, UID, 0x0117),
    "a series that is a path": (identity(series="../../etc") + CUT, UID, 0x0117),
}


@pytest.mark.parametrize("name", WITHOUT_A_NAME)
def test_what_does_not_say_whose_and_which_it_is_is_refused(lenient, name):
    content, uid, status = WITHOUT_A_NAME[name]

    assert sent(lenient, Hostile(name=name, content=content, uid=uid)) == status

    assert content not in known_datasets(lenient.data)


def test_nothing_is_left_over(lenient):
    lenient.serves()
    lenient.has_nothing_left_over()
