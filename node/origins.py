"""What the objects of a task share, by what the ledger and the configuration say of it now."""

from collections.abc import Iterable

from dicom_io.origin import Origin, Predecessor
from node.config import Config, Mode, Route, config_hash
from node.task import Task


def origin_of(
    task: Task,
    route: Route,
    *,
    config: Config,
    software_version: str,
    inputs: Iterable[str],
    predecessors: tuple[Predecessor, ...] = (),
) -> Origin:
    """Return the origin of everything that is made of a task.

    Parameters
    ----------
    inputs
        SOP Instance UIDs of what is read, in any order.
    predecessors
        Documents that a new one takes the place of.
    """
    return Origin(
        study_instance_uid=task.study_instance_uid,
        generation=task.generation,
        input_sop_instance_uids=tuple(sorted(set(inputs))),
        route=route.name,
        # Of what runs now: the configuration may have been mended since the task was made.
        config_hash=config_hash(config, route),
        created=task.created,
        site=config.site,
        software_version=software_version,
        mode="clinical" if route.mode is Mode.CLINICAL else "research",
        contact=route.contact,
        predecessors=predecessors,
    )
