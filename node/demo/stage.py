"""What the demo is played with: the phantom, its model, the explainers, the stand-in PACS."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from ai.phantom.make import Phantom, make_phantom
from ai.settings import ModelSettings
from dicom_io.select import Selector
from dicom_io.volume import Volume
from node.config import Complete, Config, ExplainSpec, Peer, Route, Step, embedded_config
from node.standin import StandInPacs

#: A phantom with a lesion.
DEMO_SEED = 1
#: Occlusion halves its cells once more than by default: the lesion is smaller than a cell else.
EXPLAINERS = (
    ExplainSpec(method="layer_cam"),
    ExplainSpec(method="occlusion", parameters={"refine": (8, 4, 4)}),
)
MODALITY_AE = "MODALITY"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """All that is on the stage; a test puts something broken in one of the places."""

    phantom: Phantom
    explain: tuple[ExplainSpec, ...]
    #: What the model's loader is given.
    model: ModelSettings
    #: From the phantom's volume to the one that the modality sends.
    image: Callable[[Volume], Volume]
    #: From the folder where it keeps what it receives to a PACS that is not running yet.
    pacs: Callable[[Path], StandInPacs]


def default_stage(seed: int = DEMO_SEED) -> Stage:
    """Return the stage on which everything works."""
    return Stage(
        phantom=make_phantom(seed),
        explain=EXPLAINERS,
        model=ModelSettings(name="phantom", kind="phantom"),
        image=lambda volume: volume,
        pacs=StandInPacs,
    )


def stage_config(stage: Stage, data: Path, pacs: StandInPacs) -> Config:
    """Return the configuration of a node with one route from the modality to the PACS.

    Parameters
    ----------
    data
        The node's data folder.
    pacs
        Running, so that its port is known.
    """
    route = Route(
        name="demo",
        steps=(Step(model=stage.model.name, explain=stage.explain),),
        select=(Selector(name="t1", conditions={"Modality": "MR"}),),
        results=("report", "measurements", "segmentation", "bands", "overlay"),
        send_to=("pacs",),
        complete=Complete(quiet_seconds=2.0),
    )
    peers = {
        "pacs": Peer(name="pacs", ae_title=pacs.ae_title, host="127.0.0.1", port=pacs.port),
        "modality": Peer(name="modality", ae_title=MODALITY_AE, host="127.0.0.1", port=104),
    }
    config = embedded_config(data, port=0, bind="127.0.0.1")
    return replace(
        config,
        storage=replace(config.storage, reserve_gb=0.1),
        peers=peers,
        routes=(route,),
        models={stage.model.name: stage.model},
    )
