"""``pellucid check``: whether everything that the configuration names is there and works."""

import os
import shutil
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

from ai.errors import ModelUnavailableError
from ai.settings import ModelSettings
from node.certificates import expiry
from node.commands.output import progress_bar
from node.commands.reach import reach
from node.config import Config, NodeSettings, Peer, Route
from node.config_peers import NodeFile
from node.config_schema import ModelFile, RoutesFile
from node.config_targets import require_labels
from node.errors import ConfigError
from node.plugins import load_encoder, load_explainer, load_model
from node.profiles import GENERIC, PROFILES

#: Top-level packages of ours that other distributions are known to install, too.
_PACKAGES = ("node", "ai", "dicom_io")
#: So long before a certificate of ours expires it should be renewed.
_DAYS_TO_RENEW = 30


class Mark(StrEnum):
    """How a thing was found."""

    OK = "ok"
    #: The node runs, but someone should look.
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What one thing was found to be."""

    thing: str
    mark: Mark
    words: str


def observe(config: Config) -> tuple[Observation, ...]:
    """Return what is found of packages, data folder, port, models, routes and peers."""
    found: list[Observation] = []
    with progress_bar() as bar:
        task = bar.add_task("checking", total=None, detail="")
        for each in _observations(config):
            found.append(each)
            bar.update(task, detail=f"{each.thing}: {each.mark}")
    return tuple(found)


def _observations(config: Config) -> Iterator[Observation]:
    yield from second_providers(metadata.packages_distributions())
    yield data_folder(config)
    for port in _ports(config.node):
        yield _port(config.node, port)
    yield from _certificates(config)
    labels: dict[str, list[str]] = {}

    def load(settings: ModelSettings) -> None:
        labels[settings.name] = [label.name for label in load_model(settings).labels]

    for settings in config.models.values():
        yield _tried(f"model {settings.name}", partial(load, settings), "loads")
    for route in config.routes:
        yield _route(route, labels, config.peers)
    for peer in config.peers.values():
        yield _peer(peer, config.node)


def listening(config: Config) -> tuple[str, ...]:
    """Return in words what a node with this configuration would listen to."""
    titles = {config.node.ae_title, *(title for route in config.routes for title in route.called)}
    where = config.node.bind or "every interface"
    senders = sorted(
        f"{peer.ae_title} at {peer.host}"
        for peer in config.peers.values()
        if peer.host and "store" in peer.allow
    )
    tls = config.node.tls
    secure = f", and with TLS on port {tls.port}" if tls is not None else ""
    return (
        f"DICOM on {where}, port {config.node.port}{secure}, as {', '.join(sorted(titles))}",
        f"objects from {', '.join(senders) or 'nobody: no peer is configured'}",
    )


def json_schemas() -> dict[str, Any]:
    """Return the JSON Schema of each configuration file, for editors."""
    return {
        "node.toml": NodeFile.model_json_schema(),
        "routes.toml": RoutesFile.model_json_schema(),
        "models/*.toml": ModelFile.model_json_schema(),
    }


def second_providers(providers: Mapping[str, list[str]]) -> Iterator[Observation]:
    """Yield a problem for each of our packages that a second distribution has written into."""
    for package in _PACKAGES:
        others = sorted(set(providers.get(package, [])) - {"pellucid"})
        if others:
            words = (
                f"the distribution {', '.join(others)} installs a package of the same name; "
                "install Pellucid into a virtual environment of its own"
            )
            yield Observation(thing=f"package {package}", mark=Mark.PROBLEM, words=words)


def data_folder(config: Config) -> Observation:
    """Return whether the data folder can be written and has room."""
    data = config.node.data
    here = next(path for path in (data, *data.parents) if path.exists())
    thing = f"data folder {data}"
    if not here.is_dir() or not os.access(here, os.W_OK | os.X_OK):
        words = f"cannot be written: {here} is closed to this user"
        return Observation(thing=thing, mark=Mark.PROBLEM, words=words)
    free_gb = shutil.disk_usage(here).free / 1e9
    words = f"{free_gb:.1f} GB free, {config.storage.reserve_gb:.1f} GB must stay free"
    if free_gb > config.storage.reserve_gb:
        return Observation(thing=thing, mark=Mark.OK, words=words)
    words += ": senders are told to come back later (0xA700)"
    return Observation(thing=thing, mark=Mark.PROBLEM, words=words)


def certificate(file: Path, now: datetime) -> Observation:
    """Return how long a certificate of ours is valid."""
    thing = f"certificate {file.name}"
    try:
        until = expiry(file)
    except (OSError, ValueError) as error:
        words = f"when it expires cannot be read: {error}"
        return Observation(thing=thing, mark=Mark.WARNING, words=words)
    days = (until - now).days
    if until <= now:
        words = f"has expired on {until:%Y-%m-%d}: renew it, peers accept no connection with it"
        return Observation(thing=thing, mark=Mark.PROBLEM, words=words)
    if days < _DAYS_TO_RENEW:
        words = f"expires on {until:%Y-%m-%d}, in {days} days: renew it"
        return Observation(thing=thing, mark=Mark.WARNING, words=words)
    return Observation(thing=thing, mark=Mark.OK, words=f"valid until {until:%Y-%m-%d}")


def _certificates(config: Config) -> Iterator[Observation]:
    ours = [] if config.node.tls is None else [config.node.tls.cert]
    ours += [peer.tls.cert for peer in config.peers.values() if peer.tls and peer.tls.cert]
    now = datetime.now(UTC)
    for file in dict.fromkeys(ours):
        yield certificate(file, now)


def _peer(peer: Peer, node: NodeSettings) -> Observation:
    answer = reach(peer, calling_ae=node.ae_title)
    mark, words = Mark.OK if answer.ok else Mark.WARNING, answer.message
    if peer.identity is not None and peer.identity.passcode and peer.tls is None:
        mark = Mark.WARNING
        words = f"{words}; its passcode goes there unencrypted: give it a table tls"
    return Observation(thing=f"peer {peer.name}", mark=mark, words=words)


def _ports(node: NodeSettings) -> tuple[int, ...]:
    return (node.port,) if node.tls is None else (node.port, node.tls.port)


def _port(node: NodeSettings, port: int) -> Observation:
    thing = f"port {port}"
    family = socket.AF_INET6 if ":" in node.bind else socket.AF_INET
    with closing(socket.socket(family)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((node.bind, port))
        except OSError as error:
            words = f"{error.strerror}; this node may be running already, else choose another port"
            return Observation(thing=thing, mark=Mark.WARNING, words=words)
    return Observation(thing=thing, mark=Mark.OK, words="free")


def _route(
    route: Route, labels: Mapping[str, Sequence[str]], peers: Mapping[str, Peer]
) -> Observation:
    """Return whether a route has everything it names; ``labels`` are those of loaded models."""
    load = partial(_load_plugins, route, labels)
    found = _tried(f"route {route.name}", load, _summary(route, peers))
    words = [
        f"its model {name} is not available"
        for name in dict.fromkeys(step.model for step in route.steps)
        if name not in labels
    ]
    if not words:
        return found
    if found.mark is Mark.PROBLEM:
        words.append(found.words)
    return replace(found, mark=Mark.PROBLEM, words="; ".join(words))


def _load_plugins(route: Route, labels: Mapping[str, Sequence[str]]) -> None:
    for step in route.steps:
        if step.model in labels:
            require_labels(step.explain, labels[step.model], step.model)
        for spec in step.explain:
            load_explainer(spec.method, spec.parameters)
    for name in PROFILES[GENERIC] if route.results is None else route.results:
        load_encoder(name)


def _summary(route: Route, peers: Mapping[str, Peer]) -> str:
    """Return in words what a route does, and what each destination gets."""
    models = ", ".join(step.model for step in route.steps)
    methods = ", ".join(spec.method for step in route.steps for spec in step.explain)
    to = ", ".join(_destination(name, route, peers) for name in route.send_to) or "nobody"
    state = "" if route.enabled else " (not enabled)"
    results = "results" if route.results is None else ", ".join(route.results)
    return f"{models}, explained by {methods or 'nothing'}; {results} to {to}{state}"


def _destination(name: str, route: Route, peers: Mapping[str, Peer]) -> str:
    """Return a destination, with its profile where that decides what it gets."""
    if route.results is not None or name not in peers:
        return name
    return f"{name} (profile {peers[name].profile})"


def _tried(thing: str, load: Callable[[], object], words: str) -> Observation:
    try:
        load()
    except (ModelUnavailableError, ConfigError) as error:
        return Observation(thing=thing, mark=Mark.PROBLEM, words=str(error))
    return Observation(thing=thing, mark=Mark.OK, words=words)
