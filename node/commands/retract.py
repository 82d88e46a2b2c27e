"""``pellucid retract``: results that must not be relied on, withdrawn from whoever has them."""

from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from itertools import groupby
from types import MappingProxyType

from dicom_io.codes import REJECTED_FOR_QUALITY, REJECTED_FOR_SAFETY, Code
from dicom_io.encode.key_objects import Rejection
from dicom_io.errors import DicomInputError
from dicom_io.own import read_own
from node.commands.options import Asked, Reason
from node.commands.output import FindingError, MisuseError, counted, progress_bar
from node.config import Config
from node.ledger import tasks
from node.ledger.engine import Engine, open_ledger
from node.ledger.withdrawals import Made, made_of_model, made_of_study
from node.task import State
from node.withdraw import Why, withdraw

#: A delivery that ends between looking and withdrawing has it looked at anew.
_LOOKS = 10


_TITLES: Mapping[Reason, Code] = MappingProxyType(
    {Reason.QUALITY: REJECTED_FOR_QUALITY, Reason.SAFETY: REJECTED_FOR_SAFETY}
)
_WORDS: Mapping[Reason, str] = MappingProxyType(
    {
        Reason.QUALITY: "Retracted by the node's operator: do not rely on them.",
        Reason.SAFETY: "Retracted by the node's operator for patient safety: they may be wrong.",
    }
)


def found(config: Config, asked: Asked) -> tuple[Made, ...]:
    """Return the objects that are asked for and have not been withdrawn yet, study by study.

    Raises
    ------
    MisuseError
        Neither a study nor a model is named, or a version without its model.
    FindingError
        There is nothing to withdraw.
    """
    if asked.study is None and asked.model is None:
        raise MisuseError("name a study, or --model NAME, or both")
    if asked.version is not None and asked.model is None:
        raise MisuseError("--version is the version of a model: add --model NAME")
    engine = open_ledger(config.node.database)
    if asked.study is not None:
        objects = made_of_study(engine, asked.study)
    else:
        objects = made_of_model(engine, asked.model or "")
    chosen = [each for each in objects if _is_of(each, asked)]
    if not chosen:
        raise FindingError(f"there is nothing to withdraw {_words(asked)}")
    return tuple(sorted(chosen, key=lambda each: (each.study_instance_uid, each.task_id)))


def rows(objects: Iterable[Made]) -> list[dict[str, object]]:
    """Return one row for each study and result: how many objects there are, and where."""
    table = []
    ordered = sorted(objects, key=_study_and_result)
    for (study, result), group in groupby(ordered, key=_study_and_result):
        of_result = list(group)
        table.append(
            {
                "study": study,
                "result": result or "unknown",
                "objects": len(of_result),
                "delivered_to": _names(each.delivered_to for each in of_result),
                "still_on_its_way_to": _names(each.waiting_for for each in of_result),
            }
        )
    return table


def retract(config: Config, asked: Asked, reason: Reason) -> int:
    """Withdraw what is asked for; return how many objects that were.

    Each study by itself: what is still on its way is never sent, and whoever has an object is owed
    a rejection note, which the running node, or the next one, delivers.

    Raises
    ------
    FindingError
        There is nothing to withdraw, or objects keep being delivered meanwhile.
    """
    engine = open_ledger(config.node.database)
    studies = dict.fromkeys(each.study_instance_uid for each in found(config, asked))
    count = 0
    with progress_bar() as bar:
        task = bar.add_task("withdrawing", total=len(studies), detail="")
        for study in studies:
            count += _retract_study(engine, config, asked, study, reason)
            bar.update(task, advance=1, detail=counted(count, "object"))
    return count


def at_work(config: Config, objects: Iterable[Made]) -> str:
    """Return in words what is still being made of these studies; empty if nothing is."""
    engine = open_ledger(config.node.database)
    studies = dict.fromkeys(each.study_instance_uid for each in objects)
    busy = [
        task.id
        for study in studies
        for task in tasks.of_study(engine, study)
        if task.state in (State.READY, State.RUNNING)
    ]
    if not busy:
        return ""
    return (
        f"{counted(len(busy), 'task')} of these studies not done yet: what comes of them will be "
        "sent; set the route's enabled = false and restart the node if nothing more must come"
    )


def _retract_study(engine: Engine, config: Config, asked: Asked, study: str, reason: Reason) -> int:
    rejection = Rejection(title=_TITLES[reason], words=_WORDS[reason])
    why = Why(rejection=rejection, reason=f"retracted ({reason})", actor="operator")
    for _ in range(_LOOKS):
        objects = [each for each in made_of_study(engine, study) if _is_of(each, asked)]
        if not objects:
            return 0
        task = tasks.find(engine, max(each.task_id for each in objects))
        if task is not None and withdraw(
            engine, config, objects, task, why=why, software_version=metadata.version("pellucid")
        ):
            return len(objects)
    raise FindingError(f"objects of study {study} are being delivered right now: try again")


def _is_of(made: Made, asked: Asked) -> bool:
    if asked.model is None:
        return True
    name, version = _model(made)
    return name == asked.model and asked.version in (None, version)


def _model(made: Made) -> tuple[str, str]:
    """Return name and version of an object's model; its file is asked where nobody noted it."""
    if made.model or made.result:
        return made.model, made.model_version
    try:
        own = read_own(made.path)
    except (OSError, DicomInputError):
        return "", ""
    return own.model_name, own.model_version


def _words(asked: Asked) -> str:
    model = f"of model {asked.model} {asked.version or ''}".strip() if asked.model else ""
    study = f"of study {asked.study}" if asked.study else ""
    return " ".join(filter(None, (study, model)))


def _study_and_result(made: Made) -> tuple[str, str]:
    return made.study_instance_uid, made.result


def _names(groups: Iterable[Sequence[str]]) -> str:
    return ", ".join(sorted({name for group in groups for name in group}))
