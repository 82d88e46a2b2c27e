"""A small PACS that stands in for a real one, in the demo and in the tests."""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self, cast

from pydicom.uid import UID
from pynetdicom import evt
from pynetdicom._globals import ALL_TRANSFER_SYNTAXES
from pynetdicom.ae import ApplicationEntity
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.presentation import AllStoragePresentationContexts
from pynetdicom.transport import ThreadedAssociationServer

from node.quiet import quiet_libraries

_VERIFICATION = "1.2.840.10008.1.1"


class StandInPacs:
    """A small Storage SCP that keeps what it receives as ``<SOP Instance UID>.dcm`` in a folder.

    Parameters
    ----------
    folder
        Where the objects are kept; made if missing.
    port
        0 lets the system choose; ``port`` tells afterwards.
    answer
        From SOP Instance UID to the status of the C-STORE; an object is kept only with 0x0000.
        None accepts all.
    refused
        SOP classes of which it accepts no presentation context.
    """

    def __init__(
        self,
        folder: Path,
        *,
        ae_title: str = "STANDIN",
        port: int = 0,
        answer: Callable[[str], int] | None = None,
        refused: Collection[str] = (),
    ) -> None:
        self.folder = folder
        self.ae_title = ae_title
        self.port = port
        self._answer = answer
        self._refused = frozenset(refused)
        self._counts: Counter[str] = Counter()
        self._server: ThreadedAssociationServer | None = None

    @property
    def received(self) -> Mapping[str, int]:
        """How often each SOP Instance UID arrived and was kept."""
        return dict(self._counts)

    def associations(self) -> Sequence[Association]:
        """Return the associations that are open now."""
        return [] if self._server is None else self._server.active_associations

    def __enter__(self) -> Self:
        quiet_libraries()
        self.folder.mkdir(parents=True, exist_ok=True)
        entity = ApplicationEntity(self.ae_title)
        entity.add_supported_context(_VERIFICATION)
        for context in AllStoragePresentationContexts:
            if context.abstract_syntax not in self._refused:
                entity.add_supported_context(str(context.abstract_syntax), ALL_TRANSFER_SYNTAXES)
        self._server = entity.start_server(
            ("127.0.0.1", self.port), block=False, evt_handlers=[(evt.EVT_C_STORE, self._keep)]
        )
        if self._server is not None:
            self.port = int(self._server.server_address[1])
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._server is not None:
            self._server.shutdown()

    def _keep(self, event: evt.Event) -> int:
        uid = str(cast(C_STORE, event.request).AffectedSOPInstanceUID)
        if not UID(uid).is_valid:
            return 0x0117
        status = 0x0000 if self._answer is None else self._answer(uid)
        if status == 0x0000:
            part = self.folder / f"{uid}.part"
            part.write_bytes(event.encoded_dataset())
            part.replace(self.folder / f"{uid}.dcm")
            self._counts[uid] += 1
        return status
