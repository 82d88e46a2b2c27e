"""Connections end in many ways: whoever waits for an answer hears of it at once."""

import time

import pytest
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import evt
from pynetdicom.pdu import P_DATA_TF

from node.peer import AssociationLostError, Timeouts, send_files
from tests.unit.node.test_peer import peer_at, scp, write_object

#: So long that whoever waits for one of them is told from who does not.
PATIENT = Timeouts(connect=5.0, association=30.0, response=30.0, network=60.0)
_TRIES = 12


def close_the_connection(event: evt.Event) -> None:
    event.assoc.dul.socket._shutdown_socket()


def close_after_the_answer(event: evt.Event) -> None:
    if isinstance(event.pdu, P_DATA_TF):
        close_the_connection(event)


def release_after_the_answer(event: evt.Event) -> None:
    if isinstance(event.pdu, P_DATA_TF):
        event.assoc.acse.send_release()


def close_instead_of_an_answer(event: evt.Event) -> int:
    close_the_connection(event)
    return 0x0000


def succeed(_event: evt.Event) -> int:
    return 0x0000


@pytest.mark.parametrize(
    "handlers",
    [
        [(evt.EVT_C_STORE, succeed), (evt.EVT_PDU_SENT, close_after_the_answer)],
        [(evt.EVT_C_STORE, succeed), (evt.EVT_PDU_SENT, release_after_the_answer)],
        [(evt.EVT_C_STORE, close_instead_of_an_answer)],
    ],
    ids=["closes after an answer", "releases after an answer", "closes instead of an answer"],
)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_peer_that_ends_an_association_early_is_not_waited_for(tmp_path, handlers):
    paths = [write_object(tmp_path / f"{index}.dcm", f"1.2.{index}") for index in range(3)]
    took = []

    with scp(syntaxes=[ExplicitVRLittleEndian], handlers=handlers) as port:
        for _ in range(_TRIES):
            began = time.monotonic()
            with pytest.raises(AssociationLostError, match="pacs"):
                send_files(peer_at(port), paths, calling_ae="PELLUCID", timeouts=PATIENT)
            took.append(time.monotonic() - began)

    # A busy machine may hold up one or two.
    assert sorted(took)[-3] < PATIENT.response
