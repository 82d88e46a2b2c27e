"""The tables of routes.toml and models/*.toml: which keys there are, and what each may hold."""

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
)

from dicom_io.select import ANY_IMAGE, Selector
from node.config_types import (
    AeTitle,
    Known,
    Limits,
    Name,
    Number,
    Sha256,
    Table,
    Text,
    Truth,
    Whole,
    one_of,
)
from node.selectors import keyword_mistake, selector_from_table
from node.when import check_when


def _known(info: ValidationInfo) -> Known:
    return info.context if isinstance(info.context, Known) else Known(folder=Path())


def _known_peer(name: str, info: ValidationInfo) -> str:
    peers = _known(info).peers
    return name if peers is None else one_of(name, peers, "peer")


def _known_destination(name: str, info: ValidationInfo) -> str:
    if name.startswith("@"):
        return one_of(name, ("@sender",), "destination")
    return _known_peer(name, info)


def _known_model(name: str, info: ValidationInfo) -> str:
    models = _known(info).models
    return name if models is None else one_of(name, models, "model")


def _known_explainer(name: str, info: ValidationInfo) -> str:
    return one_of(name, _known(info).explainers, "explainer")


def _known_encoder(name: str, info: ValidationInfo) -> str:
    return one_of(name, _known(info).encoders, "result")


def _known_loader(name: str, info: ValidationInfo) -> str:
    return one_of(name, _known(info).loaders, "kind of model")


def _parameter(value: object) -> object:
    entries = value if isinstance(value, list) else [value]
    if not all(isinstance(entry, str | int | float) for entry in entries):
        raise ValueError(f"{value!r} is neither text, number, true, false nor a list of them")
    return value


class DefaultExplainerTable(Table):
    """One explainer; every other key is a parameter of its method."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Annotated[Any, AfterValidator(_parameter)]]
    method: Annotated[Text, AfterValidator(_known_explainer)]


class ExplainTable(DefaultExplainerTable):
    """One explainer of a step, and what it explains."""

    of: list[Text] = Field(default=[], description="a list of labels of the model")
    against: Text | None = Field(default=None, min_length=1, description="a label not in of")


def _explainer_from_name(value: object) -> object:
    return {"method": value} if isinstance(value, str) else value


Explain = list[
    Annotated[
        ExplainTable,
        BeforeValidator(_explainer_from_name, json_schema_input_type=ExplainTable | str),
    ]
]
ModelName = Annotated[Text, AfterValidator(_known_model)]


class StepTable(Table):
    """One model of several, and what explains it."""

    model: ModelName = Field(description="the name of a model")
    explain: Explain | None = Field(default=None, description="a list of explainers")


class CompleteTable(Table):
    """When a study counts as whole."""

    later: ClassVar[frozenset[str]] = frozenset({"wait_for", "force_after", "on_incomplete"})
    quiet_seconds: Number = Field(default=30.0, ge=0, le=86400, description="seconds, 0 to 86400")


class LimitsTable(Table):
    """Limits of measures that a route or a model may set."""

    residual: Number | None = Field(default=None, ge=0, description="a fraction, 0.001 is 0.1 %")
    comprehensiveness: Number | None = Field(
        default=None, ge=-1, le=1, description="a contrast from -1 to 1"
    )
    specificity: Number | None = Field(
        default=None, ge=-1, le=1, description="a contrast from -1 to 1"
    )
    stability: Number | None = Field(
        default=None, ge=-1, le=1, description="a rank correlation from -1 to 1"
    )
    plausibility: Number | None = Field(
        default=None, ge=0, le=1, description="a fraction from 0 to 1"
    )
    edges: Number | None = Field(default=None, ge=0, description="a correlation, 0 to 1")
    intensity: Number | None = Field(default=None, ge=0, description="a correlation, 0 to 1")


class BudgetTable(Table):
    """What explaining may cost."""

    forwards: Whole | None = Field(default=None, ge=1, description="a whole number from 1")
    memory_gb: Number | None = Field(default=None, gt=0, description="gigabytes, above 0")
    minutes: Number = Field(
        default=30.0, gt=0, le=50, description="minutes, above 0 and at most 50"
    )


class GateTable(Table):
    """Which heatmaps may leave."""

    on_fail: Literal["label", "withhold"] = Field(
        default="label", description="'label' or 'withhold'"
    )
    limits: LimitsTable = LimitsTable()
    measure: Truth = Field(default=True, description="true or false")


Select = Annotated[
    Selector, BeforeValidator(selector_from_table, json_schema_input_type=dict[str, Any])
]


class PriorsTable(Table):
    """Where earlier reports of a patient are looked for."""

    archive: Annotated[Text, AfterValidator(_known_peer)] = Field(
        alias="from", description="the name of a peer"
    )
    seconds: Number = Field(default=30.0, gt=0, le=300, description="seconds, above 0 to 300")


class RouteTable(Table):
    """One rule."""

    name: Name = Field(description="letters, digits, '-', '_' and '.'")
    called: list[AeTitle] = Field(default=[], description="a list of AE titles")
    from_peers: list[Annotated[Text, AfterValidator(_known_peer)]] = Field(
        default=[], alias="from", description="a list of names of peers"
    )
    when: Text = Field(default="", description="an expression, such as tags.Modality == 'MR'")
    enabled: Truth = Field(default=True, description="true or false")
    select: list[Select] = Field(
        default=[ANY_IMAGE],
        min_length=1,
        description="a list of { name = ..., Keyword = condition }",
    )
    complete: CompleteTable = CompleteTable()
    priority: Literal["stat", "urgent", "routine"] = Field(
        default="routine",
        description="'stat', 'urgent' or 'routine'; 'off-peak' is not available in this version",
    )
    model: ModelName | None = Field(default=None, description="the name of a model")
    explain: Explain | None = Field(default=None, description="a list of explainers")
    run: list[StepTable] | None = Field(
        default=None, min_length=1, description="a list of { model = ..., explain = [...] }"
    )
    budget: BudgetTable = BudgetTable()
    gate: GateTable = GateTable()
    results: list[Annotated[Text, AfterValidator(_known_encoder)]] | None = Field(
        default=None, min_length=1, description="a list of results"
    )
    send_to: list[Annotated[Text, AfterValidator(_known_destination)]] = Field(
        default=[], description="a list of names of peers, and '@sender'"
    )
    mode: Literal["shadow", "research", "clinical"] = Field(
        default="research", description="'shadow', 'research' or 'clinical'"
    )
    contact: Text = Field(default="", max_length=64, description="text of at most 64 characters")
    priors: PriorsTable | None = None

    @field_validator("when")
    @classmethod
    def _is_expression(cls, text: str) -> str:
        keywords = check_when(text) if text.strip() else ()
        if mistakes := [mistake for keyword in keywords if (mistake := keyword_mistake(keyword))]:
            raise ValueError("; ".join(mistakes))
        return text


class RoutesFile(Table):
    """routes.toml."""

    route: list[RouteTable] = Field(default=[], description="tables [[route]]")


class CodeTable(Table):
    """A coded concept (PS3.3 section 8)."""

    meaning: Text = Field(min_length=1, max_length=64, description="1 to 64 characters")
    code: Text = Field(min_length=1, max_length=16, description="1 to 16 characters")
    scheme: Text = Field(min_length=1, max_length=16, description="1 to 16 characters, as SCT")


class IntendedUseTable(Table):
    """What a model is meant for; an absent key asks nothing."""

    modality: list[Text] = Field(default=[], description='a list, as ["MR"]')
    body_part: list[Text] = Field(default=[], description='a list, as ["HEAD", "BRAIN"]')
    age_years: Limits | None = Field(default=None, description="[lowest, highest] in years")
    spacing_mm: Limits | None = Field(default=None, description="[lowest, highest] in mm")
    text: Text = Field(default="", description="a sentence")


class OperatingPointTable(Table):
    """When a probability means present."""

    threshold: Number = Field(default=0.5, ge=0, le=1, description="a probability, 0 to 1")
    temperature: Number = Field(default=1.0, gt=0, description="a number above 0")


class ReliabilityTable(Table):
    """What was fitted to a model on known cases."""

    file: Text = Field(description="a file that `pellucid validate` wrote")
    sha256: Sha256 = Field(description="64 hexadecimal digits")

    @field_validator("file")
    @classmethod
    def _is_file(cls, text: str, info: ValidationInfo) -> str:
        file = _known(info).folder / Path(text).expanduser()
        if not file.is_file():
            raise ValueError(f"there is no file {str(file)!r}")
        return text


class ModelTable(Table):
    """One model."""

    name: Name = Field(description="letters, digits, '-', '_' and '.'")
    kind: Annotated[Text, AfterValidator(_known_loader)] = Field(
        default="monai_bundle", description="the name of a loader"
    )
    bundle: Text = Field(
        default="", validate_default=True, description="the folder of a MONAI bundle"
    )
    trusted: Truth = Field(default=False, description="true or false")
    device: Text = Field(
        default="cpu", pattern=r"^(cpu|cuda(:\d+)?)$", description="'cpu', 'cuda' or 'cuda:1'"
    )
    sha256: dict[Text, Sha256] = Field(default={}, description="file = 64 hexadecimal digits")
    intended_use: IntendedUseTable = IntendedUseTable()
    labels: dict[int, CodeTable] = Field(
        default={}, description="channel = { meaning, code, scheme }"
    )
    operating_point: OperatingPointTable = OperatingPointTable()
    explainer: DefaultExplainerTable | None = None
    gate: LimitsTable = LimitsTable()
    reliability: ReliabilityTable | None = None

    @field_validator("bundle")
    @classmethod
    def _is_folder(cls, text: str, info: ValidationInfo) -> str:
        if not text and info.data.get("kind") == "monai_bundle":
            raise ValueError("is missing")
        folder = _known(info).folder / Path(text).expanduser()
        if text and not folder.is_dir():
            raise ValueError(f"there is no folder {str(folder)!r}")
        return text


class ModelFile(Table):
    """models/*.toml."""

    model: ModelTable = Field(description="a table [model]")
