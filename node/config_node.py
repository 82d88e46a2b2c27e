"""The tables of node.toml as values: who this node is, and who its peers are."""

import os
from pathlib import Path

from node.config import NodeSettings, Peer, Service, UserIdentity
from node.config_peers import NodeTable, PeerTable, PeerTlsTable, TlsTable
from node.config_types import placed
from node.tls import PeerTls, TlsSettings


def default_data_folder() -> Path:
    """Return where a node keeps its store and ledger unless it is told otherwise."""
    if os.geteuid() == 0:
        return Path("/var/lib/pellucid")
    return Path.home() / ".local" / "share" / "pellucid"


def node_settings(table: NodeTable, folder: Path) -> NodeSettings:
    """Return the table ``[node]`` of a configuration folder as a value."""
    data = placed(table.data, folder) if table.data else default_data_folder()
    return NodeSettings(
        ae_title=table.ae_title,
        bind=table.bind,
        port=table.port,
        data=data,
        database=table.database or f"sqlite:///{data / 'ledger.sqlite'}",
        workers=table.workers,
        task_minutes=table.task_minutes,
        task_memory_gb=table.task_memory_gb,
        receivers=table.receivers,
        tls=None if table.tls is None else _tls(table.tls, folder),
    )


def peer_of(name: str, table: PeerTable, folder: Path) -> Peer:
    """Return a table ``[peers.NAME]`` of a configuration folder as a value."""
    return Peer(
        name=name,
        ae_title=table.ae_title,
        host=table.host,
        port=table.port if table.host else 0,
        allow=tuple(Service(service) for service in table.allow),
        profile=table.profile,
        url=table.url,
        token=table.token,
        commitment=table.commitment,
        readback=table.readback,
        ca=_file(table.ca, folder),
        tls=None if table.tls is None else _peer_tls(table.tls, table.host, folder),
        identity=UserIdentity(user=table.user, passcode=table.passcode) if table.user else None,
    )


def _tls(table: TlsTable, folder: Path) -> TlsSettings:
    return TlsSettings(
        port=table.port,
        cert=placed(table.cert, folder),
        key=placed(table.key, folder),
        ca=_file(table.ca, folder),
        require_client_cert=table.require_client_cert,
    )


def _peer_tls(table: PeerTlsTable, host: str, folder: Path) -> PeerTls:
    return PeerTls(
        host=table.host or host,
        check_host=table.check_host,
        ca=_file(table.ca, folder),
        cert=_file(table.cert, folder),
        key=_file(table.key, folder),
    )


def _file(path: str, folder: Path) -> Path | None:
    return placed(path, folder) if path else None
