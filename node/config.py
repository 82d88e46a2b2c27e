"""The configuration as frozen values, and the plan that follows from it for one route."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from importlib import metadata
from pathlib import Path

from pydantic import TypeAdapter

from ai.settings import ModelSettings, Parameter
from dicom_io.origin import Site
from dicom_io.select import Selector
from dicom_io.uids import named_uid
from node.plugins import ENCODERS, EXPLAINERS, MODELS, provider
from node.profiles import GENERIC, PROFILES
from node.task import Priority
from node.tls import PeerTls, TlsSettings


class Service(StrEnum):
    """What a peer may ask of this node, and this node of it."""

    ECHO = "echo"
    STORE = "store"
    #: Tell us, on an association of its own, what it has committed itself to keep.
    COMMIT = "commit"


class OnFail(StrEnum):
    """What happens to a heatmap whose measures fail."""

    LABEL = "label"
    WITHHOLD = "withhold"


class Mode(StrEnum):
    """How far a route's results may go."""

    #: Everything is computed and recorded, nothing leaves.
    SHADOW = "shadow"
    RESEARCH = "research"
    CLINICAL = "clinical"


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSettings:
    """Who this node is on the network, and where it works."""

    ae_title: str = "PELLUCID"
    #: Local address to listen on; empty for every interface.
    bind: str = ""
    #: 0 lets the system choose.
    port: int = 11112
    #: Folder of store and ledger, absolute.
    data: Path
    #: SQLAlchemy URL of the ledger.
    database: str
    workers: int = 1
    #: A task that takes longer is ended, and its process with it.
    task_minutes: float = 60.0
    #: Most memory that the process of a task may use; None: nine tenths of the machine's, or any
    #: where a GPU driver maps what it likes.
    task_memory_gb: float | None = None
    #: Processes that take connections, all on the same port.
    receivers: int = 1
    #: None: connections are plain.
    tls: TlsSettings | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageSettings:
    """When the store is too full to receive, and when it deletes what owes nothing to anyone."""

    #: Free space below which C-STORE is answered with 0xA700.
    reserve_gb: float = 2.0
    #: Days after its last arrival a study goes.
    retention_days: float = 7.0
    #: Used share of the file system above which younger studies go as well.
    watermark_percent: float = 90.0


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestSettings:
    """What is accepted from senders."""

    strict: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class UserIdentity:
    """What a peer and this node agree to show each other (PS3.7 D.3.3.7)."""

    user: str
    #: Empty: the user is enough. Never to be told to anyone else.
    passcode: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """Another application entity that this node talks to, or a DICOMweb service."""

    name: str
    #: AE title, host and port are empty, empty and 0 where all goes by ``url``.
    ae_title: str = ""
    host: str = ""
    port: int = 0
    allow: tuple[Service, ...] = (Service.ECHO, Service.STORE)
    profile: str = "generic"
    #: Where its DICOMweb begins; empty: objects go to it by C-STORE.
    url: str = ""
    #: Shown to the service with every request; never to be told to anyone else.
    token: str = field(default="", repr=False)
    #: Whether it is asked to commit itself to keep what it has taken.
    commitment: bool = False
    #: Whether it is asked afterwards if it lists what it has taken.
    readback: bool = False
    #: File of the authorities that may have signed its certificate; None for those of the web.
    ca: Path | None = None
    #: None: associations with it go over plain connections.
    tls: PeerTls | None = None
    #: What it must show us, and we show it, with every association; None: nothing.
    identity: UserIdentity | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplainSpec:
    """One explainer of a step, by the name of its entry point, with its parameters."""

    method: str
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    #: Labels to explain where they are found; empty: the foremost of all that are found.
    of: tuple[str, ...] = ()
    #: Label that each is weighed against, why this and not that; None: each for itself.
    against: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One model of a route, by name, and what explains it."""

    model: str
    explain: tuple[ExplainSpec, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetSettings:
    """What explaining may cost: findings are never lost to it."""

    #: Most forward passes of one explanation; None: as many as its method takes.
    forwards: int | None = None
    #: Most memory that one explanation may be estimated to take; None: what the machine allows.
    memory_gb: float | None = None
    #: A task's explanations end so long after its start; None: whenever they are done.
    minutes: float | None = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class GateSettings:
    """Which heatmaps may leave: limits by name of measure, and what a failure means."""

    on_fail: OnFail = OnFail.LABEL
    #: Changed limits; the model's, then the gate's own hold for every other measure.
    limits: Mapping[str, float] = field(default_factory=dict)
    #: False: nothing is measured, and no heatmap has a verdict.
    measure: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Complete:
    """When a study counts as whole."""

    quiet_seconds: float = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PriorSettings:
    """Where a patient's earlier reports are looked for."""

    #: Name of a peer.
    archive: str
    #: How long a task waits for it.
    seconds: float = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One rule: which studies, which models and explainers, which objects, to whom."""

    name: str
    steps: tuple[Step, ...]
    select: tuple[Selector, ...]
    #: Called AE titles; empty for any.
    called: tuple[str, ...] = ()
    #: Names of sending peers; empty for any.
    from_peers: tuple[str, ...] = ()
    #: Expression over the tags of a series; empty for always.
    when: str = ""
    enabled: bool = True
    complete: Complete = Complete()
    priority: Priority = Priority.ROUTINE
    budget: BudgetSettings = BudgetSettings()
    gate: GateSettings = GateSettings()
    #: Names of encoders, in the order of the configuration; None: what the profile of each
    #: destination asks for.
    results: tuple[str, ...] | None = None
    #: Names of peers, and ``@sender``.
    send_to: tuple[str, ...] = ()
    mode: Mode = Mode.RESEARCH
    contact: str = ""
    #: None: nothing earlier is compared.
    priors: PriorSettings | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Everything an administrator decides."""

    node: NodeSettings
    site: Site
    storage: StorageSettings = StorageSettings()
    ingest: IngestSettings = IngestSettings()
    peers: Mapping[str, Peer] = field(default_factory=dict)
    routes: tuple[Route, ...] = ()
    models: Mapping[str, ModelSettings] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedStep:
    """One step with all that its model's loader must know."""

    model: ModelSettings
    explain: tuple[ExplainSpec, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What the inference child needs of a route: it never sees the configuration itself."""

    select: tuple[Selector, ...]
    steps: tuple[PlannedStep, ...]
    gate: GateSettings
    #: Names of encoders.
    results: tuple[str, ...]
    budget: BudgetSettings = BudgetSettings()


def embedded_config(data: Path, *, port: int = 11112, bind: str = "") -> Config:
    """Return the configuration of a node without any file: the phantom's model, no routes."""
    node = NodeSettings(
        bind=bind, port=port, data=data, database=f"sqlite:///{data / 'ledger.sqlite'}"
    )
    return Config(node=node, site=site_of(node), models=built_in_models())


def built_in_models() -> dict[str, ModelSettings]:
    """Return the models that need no file, by name."""
    return {"phantom": ModelSettings(name="phantom", kind="phantom")}


def default_explain(model: ModelSettings | None) -> tuple[ExplainSpec, ...]:
    """Return what explains a model where nobody names an explainer: its own, else LayerCAM."""
    if model is None or model.explainer is None:
        return (ExplainSpec(method="layer_cam"),)
    own = model.explainer
    return (ExplainSpec(method=own.method, parameters=own.parameters),)


def site_of(node: NodeSettings, *, institution: str = "", serial_number: str = "") -> Site:
    """Return the installation; its Device UID follows from AE title and serial number."""
    return Site(
        institution=institution,
        device_serial_number=serial_number,
        device_uid=named_uid("\x1f".join(("device", node.ae_title, serial_number))),
        ae_title=node.ae_title,
    )


def plan_of(config: Config, route: Route) -> Plan:
    """Return what the inference child needs to run ``route`` for nobody in particular."""
    return Plan(
        select=route.select,
        steps=tuple(
            PlannedStep(model=config.models[step.model], explain=step.explain)
            for step in route.steps
        ),
        gate=route.gate,
        results=PROFILES[GENERIC] if route.results is None else route.results,
        budget=route.budget,
    )


def plan_to_json(plan: Plan) -> str:
    """Return the plan as one line of JSON, for the pipe to the inference child."""
    return json.dumps(asdict(plan), default=str)


def plan_from_json(text: str) -> Plan:
    """Return the plan that ``plan_to_json`` wrote."""
    return TypeAdapter(Plan).validate_json(text)


def config_hash(config: Config, route: Route) -> str:
    """Return the sha256 (hex) over all of the configuration that can change a result.

    That is what the plan holds (files of a model by their hashes, not by their place), what is
    written into objects (site, mode, contact), and the versions of the packages that provide
    the plug-ins. Comments, peers, times and routing conditions are not in it, nor is what
    destinations take: their profiles choose among objects whose identifiers stay the same.
    """
    plan = asdict(plan_of(config, route))
    plan["results"] = "by profile" if route.results is None else route.results
    for step in plan["steps"]:
        del step["model"]["bundle"]
        # What explains is in the step itself, whoever named it.
        del step["model"]["explainer"]
        fitted = step["model"].pop("reliability")
        if fitted is not None:
            step["model"]["reliability"] = fitted["sha256"]
    content = {
        "plan": plan,
        "mode": route.mode,
        "contact": route.contact,
        "site": asdict(config.site),
        "providers": sorted(_providers(config, route)),
    }
    if route.priors is not None:
        content["priors"] = "compared"
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _providers(config: Config, route: Route) -> set[str]:
    """Return the packages, with versions, whose code makes the route's results."""
    plan = plan_of(config, route)
    return {
        f"pellucid {metadata.version('pellucid')}",
        *(provider(ENCODERS, name) for name in plan.results),
        *(provider(MODELS, step.model.kind) for step in plan.steps),
        *(provider(EXPLAINERS, spec.method) for step in plan.steps for spec in step.explain),
    }
