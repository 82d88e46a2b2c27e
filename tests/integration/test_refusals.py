"""PACS that say no: nothing is lost, what is said arrives in another form, and someone is told."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import pytest
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from dicom_io.encode.objects import encode_results
from dicom_io.study import group_studies
from node.config import Config, Peer, embedded_config
from node.deliver import DeliverySettings, Destination
from node.handover import hand_over
from node.ledger import accepted, instances, outbox, studies, tasks
from node.ledger.audit import of_study
from node.ledger.engine import Engine
from node.ledger.status import backlogs
from node.negotiate import Negotiations, NegotiationSettings
from node.order import Result
from node.peer import Timeouts
from node.plugins import load_encoder
from node.profiles import PROFILES
from node.shares import plan_for, refused_results, shares_of
from node.standin import StandInPacs
from node.task import Delivery, DeliveryState, PlannedTask, Task
from tests.build_analysis import make_analysis, make_input, make_origin
from tests.build_config import make_route
from tests.build_ledger import LONG_AGO, arrive, new_ledger
from tests.orthanc import orthanc

ENHANCED_SR = "1.2.840.10008.5.1.4.1.1.88.22"
BASIC_TEXT_SR = "1.2.840.10008.5.1.4.1.1.88.11"
SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
KEY_OBJECTS = "1.2.840.10008.5.1.4.1.1.88.59"
QUICK = Timeouts(connect=2.0, association=5.0, response=2.0, network=2.0)
NOW = datetime(2026, 1, 2, tzinfo=UTC)


class Played:
    """One study with an analysis, a node's ledger, and what comes of them for some PACS."""

    def __init__(self, folder: Path, engine: Engine) -> None:
        self.folder = folder
        self.engine = engine
        self.source = make_input()
        for number, header in enumerate(self.source.headers):
            header.file_meta = FileMetaDataset()
            header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
            file = folder / f"source-{number}.dcm"
            header.save_as(file, enforce_file_format=True)
            arrive(engine, file)
        self.study_uid = str(self.source.headers[0].StudyInstanceUID)

    def work(self, config: Config) -> Task:
        """Do what a worker does, with an analysis that is made already; return the task."""
        planned = [PlannedTask(route="head", config_hash="ab", quiet_seconds=0.0)]
        studies.complete(self.engine, self.study_uid, planned, now=LONG_AGO + timedelta(seconds=1))
        task = tasks.claim(self.engine, "worker-0", LONG_AGO + timedelta(seconds=2))
        route = make_route(results=None, send_to=tuple(config.peers))
        shares = shares_of(self.engine, config, route, list(config.peers))
        names = plan_for(config, route, shares).results
        made = encode_results(
            [make_analysis(self.source)],
            [self.source],
            replace(make_origin(), study_instance_uid=self.study_uid),
            {name: load_encoder(name) for name in names},
        )
        work = self.folder / "work"
        work.mkdir()
        files = [work / f"{number}.dcm" for number in range(len(made))]
        for each, file in zip(made, files, strict=True):
            each.dataset.save_as(file, enforce_file_format=True)
        result = Result(files=tuple(files), results=tuple(each.result for each in made), seconds={})
        (study,) = group_studies(instances.of_study(self.engine, self.study_uid))
        owed = hand_over(result, work, study, data=config.node.data, shares=shares)
        refused = refused_results(shares)
        assert tasks.finish(
            self.engine, task, owed, LONG_AGO + timedelta(seconds=3), refused=refused
        )
        return task

    def deliver(self, peer: Peer, *, rounds: int = 6) -> None:
        """Deliver until nothing is due, and at most so often."""
        settings = DeliverySettings(
            calling_ae="PELLUCID", base_seconds=0.0, attempts=4, timeouts=QUICK
        )
        destination = Destination(self.engine, peer, settings)
        for _ in range(rounds):
            if not destination.deliver_due():
                return

    def owed(self, task: Task, name: str = "pacs") -> list[Delivery]:
        return [one for one in outbox.of_task(self.engine, task.id) if one.destination == name]


@pytest.fixture
def played(tmp_path):
    engine = new_ledger(tmp_path / "data")
    yield Played(tmp_path, engine)
    engine.dispose()


def config_for(played: Played, ports: Mapping[str, int], **profiles: str) -> Config:
    config = embedded_config(played.folder / "data")
    peers = {
        name: Peer(
            name=name,
            ae_title="STANDIN",
            host="127.0.0.1",
            port=port,
            profile=profiles.get(name, "generic"),
        )
        for name, port in ports.items()
    }
    return replace(config, peers=peers)


def ask(played: Played, config: Config) -> None:
    """Ask every peer what it takes, as the node does before anything is encoded."""
    settings = NegotiationSettings(calling_ae="PELLUCID", timeouts=QUICK)
    Negotiations(played.engine, config.peers.values(), settings).ask_due(NOW)


def states(owed: list[Delivery]) -> set[DeliveryState]:
    return {one.state for one in owed}


def kinds(owed: list[Delivery], state: DeliveryState) -> set[str]:
    return {one.result for one in owed if one.state is state}


@pytest.mark.parametrize(
    ("refused", "expected"),
    [
        (ENHANCED_SR, {"report_basic", "segmentation", "bands", "overlay"}),
        (SEGMENTATION, {"report", "measurements", "overlay"}),
        (SECONDARY_CAPTURE, {"report", "measurements", "segmentation", "bands"}),
    ],
)
def test_what_a_pacs_is_known_to_refuse_is_carried_by_what_it_takes(played, refused, expected):
    with StandInPacs(played.folder / "pacs", refused=[refused]) as pacs:
        config = config_for(played, {"pacs": pacs.port})
        ask(played, config)

        task = played.work(config)
        played.deliver(config.peers["pacs"])

        owed = played.owed(task)
        assert states(owed) == {DeliveryState.DELIVERED}
        assert kinds(owed, DeliveryState.DELIVERED) == expected
        assert set(pacs.received) == {one.sop_instance_uid for one in owed}
    told = of_study(played.engine, played.study_uid, ["result_not_taken"])
    assert {entry.detail["result"] for entry in told} == set(PROFILES["generic"]) - expected


@pytest.mark.parametrize(
    ("refused", "instead"),
    [(ENHANCED_SR, {"report_basic"}), (SEGMENTATION, set()), (SECONDARY_CAPTURE, set())],
)
def test_what_a_pacs_refuses_unexpectedly_is_told_and_carried_all_the_same(
    played, refused, instead
):
    with StandInPacs(played.folder / "pacs", refused=[refused]) as pacs:
        config = config_for(played, {"pacs": pacs.port})

        task = played.work(config)
        played.deliver(config.peers["pacs"])

        owed = played.owed(task)
        assert states(owed) == {DeliveryState.DELIVERED, DeliveryState.REFUSED}
        assert {one.sop_class_uid for one in owed if one.state == "refused"} == {refused}
        assert instead <= kinds(owed, DeliveryState.DELIVERED)
        assert {one.sop_class_uid for one in owed if one.state == "delivered"}.isdisjoint([refused])


def test_a_pacs_that_takes_nothing_is_offered_everything_and_named(played):
    every = [ENHANCED_SR, BASIC_TEXT_SR, SEGMENTATION, SECONDARY_CAPTURE, KEY_OBJECTS]
    with StandInPacs(played.folder / "pacs", refused=every) as pacs:
        config = config_for(played, {"pacs": pacs.port})
        ask(played, config)

        task = played.work(config)
        played.deliver(config.peers["pacs"])

        assert states(played.owed(task)) == {DeliveryState.REFUSED}
        assert pacs.received == {}


def test_several_destinations_get_each_their_own_share_of_one_set_of_objects(played):
    with (
        StandInPacs(played.folder / "pacs") as pacs,
        StandInPacs(played.folder / "old", refused=[SEGMENTATION, ENHANCED_SR]) as old,
        StandInPacs(played.folder / "vna") as vna,
    ):
        ports = {"pacs": pacs.port, "old": old.port, "vna": vna.port}
        config = config_for(played, ports, vna="archive")
        ask(played, config)

        task = played.work(config)
        for peer in config.peers.values():
            played.deliver(peer)

        got = {
            name: kinds(played.owed(task, name), DeliveryState.DELIVERED) for name in config.peers
        }
        assert got["pacs"] == {"report", "measurements", "segmentation", "bands", "overlay"}
        assert got["old"] == {"report_basic", "overlay"}
        assert got["vna"] == {"report", "measurements", "segmentation", "bands"}
        assert set(vna.received) < set(pacs.received)


def test_a_dead_destination_holds_up_neither_the_task_nor_the_others(played):
    with StandInPacs(played.folder / "gone") as gone:
        dead_port = gone.port
    with StandInPacs(played.folder / "pacs") as pacs:
        config = config_for(played, {"dead": dead_port, "pacs": pacs.port})
        ask(played, config)

        task = played.work(config)
        for peer in config.peers.values():
            played.deliver(peer, rounds=1)

        assert states(played.owed(task)) == {DeliveryState.DELIVERED}
        waiting = played.owed(task, "dead")
        assert states(waiting) == {DeliveryState.WAITING}
        assert kinds(waiting, DeliveryState.WAITING) == set(PROFILES["generic"])


@contextmanager
def moody_pacs(folder: Path) -> Iterator[tuple[StandInPacs, list[int]]]:
    """A PACS whose first answers are: no room, no room, stored with a warning; then all is well."""
    moods = iter([0xA700, 0xA700, 0xB000])
    answered: list[int] = []

    def answer(_uid: str) -> int:
        answered.append(next(moods, 0x0000))
        return answered[-1]

    with StandInPacs(folder, answer=answer) as pacs:
        yield pacs, answered


def test_a_pacs_without_room_then_with_warnings_then_silent_loses_nothing(played):
    numbers, patience_is_over = count(), threading.Event()

    def forgets_to_answer(_uid: str) -> int:
        if next(numbers) == 0:
            patience_is_over.wait(30.0)
        return 0x0000

    config = config_for(played, {"pacs": 1})
    task = played.work(config)
    with moody_pacs(played.folder / "moody") as (pacs, answered):
        peer = replace(config.peers["pacs"], port=pacs.port)
        played.deliver(peer, rounds=1)
        first = played.owed(task)
    with StandInPacs(played.folder / "silent", answer=forgets_to_answer) as pacs:
        peer = replace(config.peers["pacs"], port=pacs.port)
        played.deliver(peer, rounds=1)
        second = played.owed(task)
        (told,) = backlogs(played.engine)
        patience_is_over.set()
        played.deliver(peer)

    assert answered[:3] == [0xA700, 0xA700, 0xB000]
    assert [one.status for one in first[:3]] == [0xA700, 0xA700, 0xB000]
    assert {one.state for one in first[:2]} == {DeliveryState.WAITING}
    assert [(one.attempt, one.status) for one in second[:2]] == [(2, None), (1, 0xA700)]
    assert told.objects == 2
    assert told.reason == "pacs gave no answer before the association ended"
    assert states(played.owed(task)) == {DeliveryState.DELIVERED}


@pytest.mark.peers
def test_a_real_pacs_takes_all_that_it_says_it_takes(played):
    with orthanc(played.folder / "orthanc") as pacs:
        config = config_for(played, {"pacs": pacs.dicom_port}, pacs="weasis")
        peer = replace(config.peers["pacs"], ae_title=pacs.ae_title)
        config = replace(config, peers={"pacs": peer})
        ask(played, config)

        task = played.work(config)
        played.deliver(peer)

        owed = played.owed(task)
        assert accepted.known(played.engine, ["pacs"])["pacs"].learnt == NOW
        assert kinds(owed, DeliveryState.DELIVERED) == set(PROFILES["weasis"])
        assert set(pacs.instances()) == {one.sop_instance_uid for one in owed}
