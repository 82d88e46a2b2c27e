"""What has arrived: instances, their receptions, and who they conflict with."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from itertools import groupby
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, Row, String, bindparam, exists, select, update

from dicom_io.study import Instance
from node.ledger import schema, studies
from node.ledger.earlier_hash import adopt
from node.ledger.engine import insert_missing, reading
from node.ledger.prepared import all_columns, run
from node.task import Reception, StudyState

_STUDY, _INSTANCE = schema.study.c, schema.instance.c
_LOCK_STUDY = (
    select(
        _STUDY.study_instance_uid, _STUDY.patient_id, _STUDY.state, _STUDY.generation,
        _STUDY.revision,
    )
    .where(_STUDY.study_instance_uid == bindparam("study_uid", type_=String))
    .with_for_update()
)  # fmt: skip
_KNOWN = select(
    exists(schema.artifact.c.sop_instance_uid)
    .where(schema.artifact.c.sop_instance_uid == bindparam("sop_uid", type_=String))
    .label("is_ours"),
    exists(_INSTANCE.id)
    .where(_INSTANCE.sop_instance_uid == bindparam("sop_uid", type_=String))
    .label("is_held"),
    exists(schema.series.c.first_arrival)
    .where(
        schema.series.c.study_instance_uid == bindparam("study_uid", type_=String),
        schema.series.c.series_instance_uid == bindparam("series_uid", type_=String),
    )
    .label("has_series"),
)
_INSERT_INSTANCE = all_columns(
    schema.instance,
    "sop_instance_uid", "study_instance_uid", "series_instance_uid", "sop_class_uid",
    "transfer_syntax_uid", "patient_id", "tags", "digest", "path", "generation", "arrived",
    "nonconformance",
)  # fmt: skip
_INSERT_RECEPTION = all_columns(
    schema.reception,
    "sop_instance_uid", "study_instance_uid", "digest", "called_ae", "calling_ae", "address", "at",
    "path", "meaning",
)  # fmt: skip
_GROW_STUDY = (
    update(schema.study)
    .where(_STUDY.study_instance_uid == bindparam("study_uid", type_=String))
    .values(
        state=bindparam("new_state", type_=_STUDY.state.type),
        revision=bindparam("new_revision", type_=_STUDY.revision.type),
        last_arrival=bindparam("at", type_=_STUDY.last_arrival.type),
    )
)


class Added(StrEnum):
    """What the arrival of an instance meant."""

    NEW = "new"
    #: The same bytes again.
    DUPLICATE = "duplicate"
    #: Same SOP Instance UID, patient and study with other bytes: the newest counts.
    REPLACED = "replaced"
    #: Does not conform, and what it would replace does: kept, but the earlier one counts.
    DAMAGED = "damaged"
    #: Another patient or study already owns one of its UIDs; kept, and the study is quarantined.
    CONFLICT = "conflict"
    #: A result of this node that came back; recorded, never work.
    OURS = "ours"


#: Gives the hash of the pixel data in a stored file of a transfer syntax.
PixelsSha256 = Callable[[Path, str], str]


def no_pixels(_path: Path, _transfer_syntax_uid: str) -> str:
    """Return that nothing is known of the pixel data of a file."""
    return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrived:
    """All that is known about one arrived instance, whose file is durable."""

    instance: Instance
    reception: Reception
    #: Of the stored file, hex: also its address in the store.
    digest: str
    #: An instance that replaces another one with the same pixels and tags opens no new
    #: generation: both are hashed then, and only then.
    pixels_sha256: PixelsSha256 = no_pixels
    #: A result of this node that came back: a reception row and nothing else.
    is_ours: bool = False


def add_all(connection: Connection, arrived: Sequence[Arrived]) -> list[Added]:
    """Record arrived instances in one transaction, and return what each meant; idempotent."""
    meanings = {}
    with connection.begin():
        # In one order for everybody: two receivers must not wait for each other's studies.
        order = sorted(range(len(arrived)), key=lambda index: _study_of(arrived[index]))
        for uid, indices in groupby(order, key=lambda index: _study_of(arrived[index])):
            study = _Study(connection, uid)
            for index in indices:
                each = arrived[index]
                meanings[index] = Added.OURS if each.is_ours else _admit(study, each)
                _remember(connection, each, meanings[index])
            study.write()
        sys.audit("pellucid.ledger.instance_written")
    sys.audit("pellucid.ledger.instance_committed")
    return [meanings[index] for index in range(len(arrived))]


def of_study(
    engine: Engine, study_instance_uid: str, generation: int | None = None
) -> tuple[Instance, ...]:
    """Return the instances of one generation of a study, sorted by SOP Instance UID.

    Without ``generation``: everything that counts today, also what no generation holds yet.
    """
    table = schema.instance.c
    query = select(schema.instance).where(table.study_instance_uid == study_instance_uid)
    if generation is None:
        query = query.where(table.replaced_in.is_(None))
    else:
        current = table.replaced_in.is_(None) | (table.replaced_in > generation)
        query = query.where(table.generation <= generation, current)
    with reading(engine) as connection:
        rows = connection.execute(query.order_by(table.sop_instance_uid)).all()
    return tuple(_instance(row) for row in rows)


def _study_of(arrived: Arrived) -> str:
    return arrived.instance.study_instance_uid


class _Study:
    """A study that instances are added to: its row is read once for all of them, and written once.

    Parameters
    ----------
    connection
        In whose transaction the row is locked when it is first asked for.
    """

    def __init__(self, connection: Connection, uid: str) -> None:
        self.connection = connection
        self._uid = uid
        self._row: Any | None = None
        self._grown_by = 0
        self._reopens = False
        self._at: datetime | None = None

    def row(self) -> Any | None:
        """Return the locked row; None if there is none yet."""
        if self._row is None:
            given = {"study_uid": self._uid}
            self._row = next(iter(run(self.connection, _LOCK_STUDY, given)), None)
        return self._row

    def grow(self, at: datetime, *, counts: bool) -> None:
        """Note that it has changed; what ``counts`` opens it again if it was complete."""
        self._grown_by += 1
        self._reopens |= counts
        self._at = at

    def write(self) -> None:
        """Write what has been noted; the row is read anew afterwards."""
        row, self._row = self._row, None
        if row is not None and self._grown_by:
            reopens = self._reopens and row.state == StudyState.COMPLETE
            values = {
                "study_uid": self._uid,
                "new_state": StudyState.RECEIVING.value if reopens else row.state,
                "new_revision": row.revision + self._grown_by,
                "at": self._at,
            }
            run(self.connection, _GROW_STUDY, values)
        self._grown_by, self._reopens = 0, False


def _admit(study: _Study, arrival: Arrived) -> Added:
    connection, row, known = study.connection, study.row(), _known(study.connection, arrival)
    if known.is_ours:
        return Added.OURS
    if row is None:
        row = _new_study(study, arrival)
        # Another receiver may have made it, and written into it.
        known = _known(connection, arrival)
    held = _held(connection, arrival.instance.sop_instance_uid) if known.is_held else []
    reason = _contradiction(arrival.instance, row, held)
    if reason:
        study.write()
        _set_aside(connection, arrival, held, reason)
        return Added.CONFLICT
    if any(each.digest == arrival.digest for each in held) or adopt(
        connection, held, arrival.instance.path, arrival.digest
    ):
        study.write()
        _repeat(connection, arrival)
        return Added.DUPLICATE
    old = _current(held)
    if old is not None and arrival.instance.nonconformance and old.nonconformance is None:
        study.write()
        _keep_aside(connection, arrival)
        return Added.DAMAGED
    generation = None if old is None else _replace(connection, arrival, row, old)
    _insert(connection, arrival, generation)
    if not known.has_series:
        _insert_series(connection, arrival)
    study.grow(arrival.reception.at, counts=generation is None)
    return Added.NEW if old is None else Added.REPLACED


def _known(connection: Connection, arrival: Arrived) -> Any:
    """Return what is there already of an instance; to be asked with its study locked."""
    given = {
        "sop_uid": arrival.instance.sop_instance_uid,
        "study_uid": arrival.instance.study_instance_uid,
        "series_uid": arrival.instance.series_instance_uid,
    }
    return run(connection, _KNOWN, given)[0]


def _new_study(study: _Study, arrival: Arrived) -> Any:
    """Return the locked row of the study, made if this is its first instance."""
    uid, at = arrival.instance.study_instance_uid, arrival.reception.at
    row = {
        "study_instance_uid": uid,
        "patient_id": arrival.instance.patient_id,
        "state": StudyState.RECEIVING,
        "generation": 0,
        "revision": 0,
        "first_arrival": at,
        "last_arrival": at,
        "quarantine_reason": "",
    }
    insert_missing(study.connection, schema.study, [row])
    return study.row()


def _held(connection: Connection, sop_instance_uid: str) -> list[Row[Any]]:
    query = select(schema.instance).where(schema.instance.c.sop_instance_uid == sop_instance_uid)
    return list(connection.execute(query))


def _current(held: list[Row[Any]]) -> Row[Any] | None:
    return next((row for row in held if row.replaced_in is None), None)


def _contradiction(instance: Instance, study: Any, held: list[Row[Any]]) -> str:
    """Return why the instance cannot belong to the study, or an empty text; names no patient."""
    if study.patient_id != instance.patient_id:
        return "instances of two different Patient IDs carry this Study Instance UID"
    if any(row.patient_id != instance.patient_id for row in held):
        return f"SOP Instance UID {instance.sop_instance_uid} came with two different Patient IDs"
    if any(row.study_instance_uid != instance.study_instance_uid for row in held):
        return f"SOP Instance UID {instance.sop_instance_uid} came within two different studies"
    return ""


def _set_aside(connection: Connection, arrival: Arrived, held: list[Row[Any]], reason: str) -> None:
    instance, at = arrival.instance, arrival.reception.at
    row = {
        "sop_instance_uid": instance.sop_instance_uid,
        "study_instance_uid": instance.study_instance_uid,
        "patient_id": instance.patient_id,
        "digest": arrival.digest,
        "path": str(instance.path),
        "reason": reason,
        "at": at,
    }
    insert_missing(connection, schema.instance_conflict, [row])
    actor = f"{arrival.reception.calling_ae}@{arrival.reception.address}"
    involved = {instance.study_instance_uid, *(row.study_instance_uid for row in held)}
    for uid in sorted(involved):
        studies.quarantine(connection, uid, reason=reason, now=at, actor=actor)


def _replace(connection: Connection, arrival: Arrived, study: Any, old: Row[Any]) -> int | None:
    """End the old version; return the generation that the new one inherits, None for a new one."""
    unchanged = _same_content(old, arrival)
    # A version that no generation ever held is replaced from the start.
    replaced_in = 0 if old.generation is None else study.generation + 1
    connection.execute(
        update(schema.instance)
        .where(schema.instance.c.id == old.id)
        .values(replaced_in=old.generation or 0 if unchanged else replaced_in)
    )
    return int(old.generation) if unchanged and old.generation is not None else None


def _insert(connection: Connection, arrival: Arrived, generation: int | None) -> None:
    instance = arrival.instance
    row = {
        "sop_instance_uid": instance.sop_instance_uid,
        "study_instance_uid": instance.study_instance_uid,
        "series_instance_uid": instance.series_instance_uid,
        "sop_class_uid": instance.sop_class_uid,
        "transfer_syntax_uid": instance.transfer_syntax_uid,
        "patient_id": instance.patient_id,
        "tags": dict(instance.tags),
        "digest": arrival.digest,
        "path": str(instance.path),
        "generation": generation,
        "arrived": arrival.reception.at,
        "nonconformance": instance.nonconformance or None,
    }
    run(connection, _INSERT_INSTANCE, row)


def _keep_aside(connection: Connection, arrival: Arrived) -> None:
    """Keep a version that does not conform beside one that does, and that goes on to count."""
    _insert(connection, arrival, None)
    mine = schema.instance.c
    it = mine.sop_instance_uid == arrival.instance.sop_instance_uid, mine.digest == arrival.digest
    connection.execute(update(schema.instance).where(*it).values(replaced_in=0))
    _repeat(connection, arrival)


def _insert_series(connection: Connection, arrival: Arrived) -> None:
    instance = arrival.instance
    series = {
        "study_instance_uid": instance.study_instance_uid,
        "series_instance_uid": instance.series_instance_uid,
        "first_arrival": arrival.reception.at,
    }
    insert_missing(connection, schema.series, [series])


def _same_content(old: Row[Any], arrival: Arrived) -> bool:
    new = arrival.instance
    if new.nonconformance or old.nonconformance:
        # Pixels cannot be found in what contradicts itself.
        return False
    if dict(old.tags) != dict(new.tags) or old.transfer_syntax_uid != new.transfer_syntax_uid:
        return False
    try:
        before = arrival.pixels_sha256(Path(old.path), old.transfer_syntax_uid)
        return before != "" and before == arrival.pixels_sha256(new.path, new.transfer_syntax_uid)
    except (OSError, ValueError):
        # What cannot be read any more is not the same.
        return False


def _repeat(connection: Connection, arrival: Arrived) -> None:
    """Note that the sender of a study is not done yet, though it repeats itself."""
    table = schema.study
    connection.execute(
        update(table)
        .where(
            table.c.study_instance_uid == arrival.instance.study_instance_uid,
            table.c.state == StudyState.RECEIVING,
        )
        .values(last_arrival=arrival.reception.at)
    )


def _remember(connection: Connection, arrival: Arrived, meaning: Added) -> None:
    instance, reception = arrival.instance, arrival.reception
    row = {
        "sop_instance_uid": instance.sop_instance_uid,
        "study_instance_uid": instance.study_instance_uid,
        "digest": arrival.digest,
        "called_ae": reception.called_ae,
        "calling_ae": reception.calling_ae,
        "address": reception.address,
        "at": reception.at,
        "path": str(instance.path),
        "meaning": meaning.value,
    }
    run(connection, _INSERT_RECEPTION, row)


def _instance(row: Row[Any]) -> Instance:
    return Instance(
        study_instance_uid=row.study_instance_uid,
        series_instance_uid=row.series_instance_uid,
        sop_instance_uid=row.sop_instance_uid,
        sop_class_uid=row.sop_class_uid,
        transfer_syntax_uid=row.transfer_syntax_uid,
        path=Path(row.path),
        patient_id=row.patient_id,
        tags=dict(row.tags),
        nonconformance=row.nonconformance or "",
    )
