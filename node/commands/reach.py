"""Whether a peer answers: by C-ECHO, or by a question over DICOMweb."""

from node.config import Peer
from node.dicomweb import echo_over_web
from node.peer import Echo, Timeouts, echo


def reach(peer: Peer, *, calling_ae: str) -> Echo:
    """Ask ``peer`` in its own way and say in words what came of it."""
    if peer.url:
        return echo_over_web(peer, timeouts=Timeouts())
    return echo(peer, calling_ae=calling_ae)
