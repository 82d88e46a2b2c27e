"""An instance that has come whole, and is neither examined nor durable: what receivers hand on."""

import json
from dataclasses import dataclass
from datetime import datetime

from node.part import Finished
from node.task import Reception


@dataclass(frozen=True, slots=True, kw_only=True)
class Landed:
    """What is known of it: where it lies, and what its sender has announced."""

    #: Valid UIDs.
    sop_class_uid: str
    sop_instance_uid: str
    #: Of the presentation context.
    transfer_syntax_uid: str
    reception: Reception
    part: Finished


def as_message(number: int, landed: Landed) -> bytes:
    """Return what one process tells another: no pickle, and less than a kilobyte.

    Parameters
    ----------
    number
        Greater of what has come later.
    """
    reception, part = landed.reception, landed.part
    values = (
        number,
        landed.sop_class_uid,
        landed.sop_instance_uid,
        landed.transfer_syntax_uid,
        reception.called_ae,
        reception.calling_ae,
        reception.address,
        reception.at.isoformat(),
        part.name,
        part.size,
        part.digest,
        part.slot,
    )
    return json.dumps(values).encode()


def as_question(number: int) -> bytes:
    """Return what asks whether all that was handed on before has its place."""
    return json.dumps([number]).encode()


def from_message(message: bytes) -> tuple[int, Landed | None]:
    """Return number and instance of what ``as_message`` has made; no instance: a question."""
    number, *values = json.loads(message)
    if not values:
        return number, None
    sop_class, sop_instance, syntax, called, calling, address, at, *part = values
    name, size, digest, slot = part
    return number, Landed(
        sop_class_uid=sop_class,
        sop_instance_uid=sop_instance,
        transfer_syntax_uid=syntax,
        reception=Reception(
            called_ae=called,
            calling_ae=calling,
            address=address,
            at=datetime.fromisoformat(at),
        ),
        part=Finished(name=name, size=size, digest=digest, slot=slot),
    )
