"""A configuration folder to a configuration: all files checked together, then made values."""

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from ai.settings import DefaultExplainer, IntendedUse, ModelSettings, Parameter, ReliabilityFile
from dicom_io.codes import Code
from node.config import (
    BudgetSettings,
    Complete,
    Config,
    ExplainSpec,
    GateSettings,
    IngestSettings,
    Mode,
    OnFail,
    PriorSettings,
    Route,
    Step,
    StorageSettings,
    built_in_models,
    default_explain,
    site_of,
)
from node.config_files import RawFile, read_file, validated
from node.config_node import node_settings, peer_of
from node.config_peers import NodeFile
from node.config_schema import (
    DefaultExplainerTable,
    ExplainTable,
    ModelFile,
    ModelTable,
    PriorsTable,
    ReliabilityTable,
    RoutesFile,
    RouteTable,
    StepTable,
)
from node.config_targets import target_problems
from node.config_tokens import token_problems
from node.config_types import Known, placed
from node.plugins import ENCODERS, EXPLAINERS, MODELS, names
from node.problems import InvalidConfigError, Problem
from node.task import Priority


@dataclass(frozen=True, slots=True, kw_only=True)
class Tables:
    """The files of a folder, each of them and all together without a mistake."""

    folder: Path
    node: NodeFile
    routes: RoutesFile
    models: tuple[ModelFile, ...]


def load_config(folder: Path, environment: Mapping[str, str] | None = None) -> Config:
    """Return the configuration in ``folder``: node.toml, routes.toml, models/*.toml.

    Parameters
    ----------
    environment
        What ``${env:NAME}`` may name; None for the environment of the process.

    Raises
    ------
    InvalidConfigError
        With every mistake in every file.
    """
    return config_of(read_folder(folder, os.environ if environment is None else environment))


def read_folder(folder: Path, environment: Mapping[str, str]) -> Tables:
    """Return the tables in ``folder``; absent files hold nothing but defaults.

    Raises
    ------
    InvalidConfigError
        With every mistake in every file.
    """
    if not folder.is_dir():
        raise InvalidConfigError([_folder_problem(folder, "there is no such folder")])
    found = [folder / "node.toml", folder / "routes.toml", *sorted(folder.glob("models/*.toml"))]
    raw = {
        name: read_file(path, name, environment=environment)
        for path in found
        if (name := path.relative_to(folder).as_posix()) and path.exists()
    }
    if not raw:
        raise InvalidConfigError([_folder_problem(folder, "holds no node.toml and no routes.toml")])
    empty = RawFile(name="", tables={})
    models = [file for name, file in raw.items() if name.startswith("models/")]
    known = _known(folder, raw.get("node.toml", empty), models)
    node, problems = validated(raw.get("node.toml", empty), NodeFile, known)
    routes, of_routes = validated(raw.get("routes.toml", empty), RoutesFile, known)
    checked = [validated(file, ModelFile, known) for file in models]
    problems += [*of_routes, *(problem for _, of_model in checked for problem in of_model)]
    problems += _clashes(raw)
    problems += target_problems(raw.get("routes.toml", empty), models)
    if problems or node is None or routes is None:
        raise InvalidConfigError(problems)
    return Tables(folder=folder, node=node, routes=routes, models=tuple(m for m, _ in checked if m))


def config_of(tables: Tables) -> Config:
    """Return the tables as values that the rest of the node works with."""
    node = node_settings(tables.node.node, tables.folder)
    site = tables.node.site
    settings = [_model_settings(file.model, tables.folder) for file in tables.models]
    models = {**built_in_models(), **{model.name: model for model in settings}}
    return Config(
        node=node,
        site=site_of(node, institution=site.institution, serial_number=site.device_serial_number),
        storage=StorageSettings(**tables.node.storage.model_dump()),
        ingest=IngestSettings(strict=tables.node.ingest.strict),
        peers={
            name: peer_of(name, table, tables.folder) for name, table in tables.node.peers.items()
        },
        routes=tuple(_route(table, models) for table in tables.routes.route),
        models=models,
    )


def _folder_problem(folder: Path, what: str) -> Problem:
    return Problem(file=str(folder), key="", what=what)


def _known(folder: Path, node: RawFile, models: Sequence[RawFile]) -> Known:
    peers = node.tables.get("peers", {})
    named = (
        _name_of(file.tables.get("model")) if file.readable else Path(file.name).stem
        for file in models
    )
    return Known(
        folder=folder,
        peers=frozenset(peers) if node.readable and isinstance(peers, dict) else None,
        models=frozenset(name for name in named if name) | frozenset(built_in_models()),
        explainers=frozenset(names(EXPLAINERS)),
        encoders=frozenset(names(ENCODERS)),
        loaders=frozenset(names(MODELS)),
    )


def _name_of(table: object) -> str:
    name = table.get("name") if isinstance(table, dict) else None
    return name if isinstance(name, str) else ""


def _clashes(raw: Mapping[str, RawFile]) -> Iterator[Problem]:
    """Yield what is wrong between tables: names used twice, and two ways to say one thing."""
    routes = raw["routes.toml"].tables.get("route") if "routes.toml" in raw else None
    entries = (
        [each for each in routes if isinstance(each, dict)] if isinstance(routes, list) else []
    )
    for name, count in Counter(_name_of(entry) for entry in entries).items():
        if name and count > 1:
            what = f"{count} routes have this name; expected one"
            yield Problem(file="routes.toml", key=f"route[{name}].name", what=what)
    for number, entry in enumerate(entries):
        yield from _route_clashes(entry, f"route[{_name_of(entry) or number}]")
    if "node.toml" in raw:
        yield from _shared_titles(raw["node.toml"].tables)
        yield from token_problems(raw["node.toml"])
    owners: dict[str, str] = {}
    for file in raw.values():
        name = _name_of(file.tables.get("model")) if file.name.startswith("models/") else ""
        if name and owners.setdefault(name, file.name) != file.name:
            what = f"{name!r} is the name of the model in {owners[name]} too; expected another"
            yield Problem(file=file.name, key="model.name", what=what)


def _shared_titles(tables: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield AE titles of several peers: who sent an object is then told by IP address alone."""
    peers = tables.get("peers")
    addresses: dict[object, dict[str, str]] = {}
    for name, peer in peers.items() if isinstance(peers, dict) else ():
        if isinstance(peer, list) and len(peer) == 3:
            addresses.setdefault(peer[0], {})[name] = str(peer[1])
        elif isinstance(peer, dict) and "ae_title" in peer:
            addresses.setdefault(peer["ae_title"], {})[name] = str(peer.get("host"))
    for title, hosts in addresses.items():
        distinct = len(set(hosts.values())) == len(hosts)
        if len(hosts) > 1 and not (distinct and all(_is_address(host) for host in hosts.values())):
            yield Problem(
                file="node.toml",
                key=f"peers.{next(iter(hosts))}.ae_title",
                what=f"{title!r} is the AE title of {', '.join(hosts)}; expected a different IP "
                "address as the host of each, so that senders can be told apart",
            )


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _route_clashes(entry: Mapping[str, Any], key: str) -> Iterator[Problem]:
    if "run" in entry:
        for other in ("model", "explain"):
            if other in entry:
                what = "stands beside run; expected either run, or model and explain"
                yield Problem(file="routes.toml", key=f"{key}.{other}", what=what)
    elif "model" not in entry:
        what = "is missing; expected the name of a model"
        yield Problem(file="routes.toml", key=f"{key}.model", what=what)
    run = entry.get("run")
    models = (
        [each.get("model") for each in run if isinstance(each, dict)]
        if isinstance(run, list)
        else []
    )
    for model in sorted(
        {each for each in models if isinstance(each, str) and models.count(each) > 1}
    ):
        what = f"runs {model!r} several times; expected one entry with all its explainers"
        yield Problem(file="routes.toml", key=f"{key}.run", what=what)
    select = entry.get("select")
    counted = Counter(_name_of(each) for each in select) if isinstance(select, list) else Counter()
    for name in (name for name, count in counted.items() if name and count > 1):
        what = f"{name!r} is the name of several entries; expected a name of its own for each"
        yield Problem(file="routes.toml", key=f"{key}.select", what=what)


def _route(table: RouteTable, models: Mapping[str, ModelSettings]) -> Route:
    limits = table.gate.limits.model_dump(exclude_none=True)
    return Route(
        name=table.name,
        called=tuple(table.called),
        from_peers=tuple(table.from_peers),
        when=table.when.strip(),
        enabled=table.enabled,
        select=tuple(table.select),
        complete=Complete(quiet_seconds=table.complete.quiet_seconds),
        priority=Priority[table.priority.upper()],
        steps=tuple(_step(step, models) for step in _step_tables(table)),
        budget=BudgetSettings(**table.budget.model_dump()),
        gate=GateSettings(
            on_fail=OnFail(table.gate.on_fail), limits=limits, measure=table.gate.measure
        ),
        results=None if table.results is None else tuple(table.results),
        send_to=tuple(table.send_to),
        mode=Mode(table.mode),
        contact=table.contact,
        priors=_priors(table.priors),
    )


def _priors(table: PriorsTable | None) -> PriorSettings | None:
    if table is None:
        return None
    return PriorSettings(archive=table.archive, seconds=table.seconds)


def _step_tables(table: RouteTable) -> Sequence[StepTable]:
    if table.run is not None:
        return table.run
    return [StepTable.model_construct(model=table.model, explain=table.explain)]


def _step(table: StepTable, models: Mapping[str, ModelSettings]) -> Step:
    if table.explain is None:
        return Step(model=table.model, explain=default_explain(models.get(table.model)))
    return Step(model=table.model, explain=tuple(_explain_spec(each) for each in table.explain))


def _explain_spec(table: ExplainTable) -> ExplainSpec:
    parameters = table.model_extra or {}
    return ExplainSpec(
        method=table.method,
        parameters={name: _parameter(value) for name, value in parameters.items()},
        of=tuple(table.of),
        against=table.against,
    )


def _parameter(value: Any) -> Parameter:
    return tuple(value) if isinstance(value, list) else value


def _model_settings(table: ModelTable, folder: Path) -> ModelSettings:
    use = table.intended_use
    return ModelSettings(
        name=table.name,
        kind=table.kind,
        bundle=placed(table.bundle, folder) if table.bundle else None,
        trusted=table.trusted,
        device=table.device,
        sha256=dict(table.sha256),
        labels={
            channel: Code(value=code.code, scheme=code.scheme, meaning=code.meaning)
            for channel, code in table.labels.items()
        },
        intended_use=IntendedUse(
            modality=tuple(use.modality),
            body_part=tuple(use.body_part),
            age_years=_pair(use.age_years),
            spacing_mm=_pair(use.spacing_mm),
            text=use.text,
        ),
        threshold=table.operating_point.threshold,
        temperature=table.operating_point.temperature,
        gate=table.gate.model_dump(exclude_none=True),
        explainer=_default_explainer(table.explainer),
        reliability=_reliability_file(table.reliability, folder),
    )


def _default_explainer(table: DefaultExplainerTable | None) -> DefaultExplainer | None:
    if table is None:
        return None
    parameters = table.model_extra or {}
    return DefaultExplainer(
        method=table.method,
        parameters={name: _parameter(value) for name, value in parameters.items()},
    )


def _reliability_file(table: ReliabilityTable | None, folder: Path) -> ReliabilityFile | None:
    if table is None:
        return None
    return ReliabilityFile(file=placed(table.file, folder), sha256=table.sha256)


def _pair(limits: Sequence[float] | None) -> tuple[float, float] | None:
    return None if limits is None else (limits[0], limits[1])
