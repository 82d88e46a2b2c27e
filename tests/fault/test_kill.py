"""Any process may be killed at any time: nothing acknowledged is lost, nothing is sent twice.

The oracle is what the sender was told and what lies in the PACS, never the node's own ledger.
"""

import hashlib
import threading
from pathlib import Path

import pytest
from pydicom import dcmread

from node.config import Peer
from node.ledger import instances, tasks
from node.ledger.engine import open_ledger
from node.peer import associate, contexts_for, echo, store, stored_object
from node.standin import StandInPacs
from node.task import State
from tests.fakes import NodeProcess, alive, ball_files, bright_bundle, descendants, kill
from tests.wait import until

pytestmark = pytest.mark.slow

OBJECTS_PER_STUDY = 2


class Scene:
    """A node whose work can be held in the middle, a PACS, and a modality with one study."""

    def __init__(self, folder: Path, node: NodeProcess, pacs: StandInPacs) -> None:
        self.folder = folder
        self.node = node
        self.pacs = pacs
        self.files = ball_files(folder / "study", seed=folder.name)
        self.hold = folder / "hold"
        self.acknowledged: set[Path] = set()

    def hold_work(self) -> None:
        self.hold.touch()

    def let_go(self) -> None:
        self.hold.unlink(missing_ok=True)
        Path(f"{self.hold}.reached").unlink(missing_ok=True)

    def until_held(self) -> None:
        self.node.until(Path(f"{self.hold}.reached").exists)

    def send(self, files=None) -> None:
        """Send as a modality would, and note what was acknowledged; stop at a broken line."""
        peer = Peer(name="node", ae_title="PELLUCID", host="127.0.0.1", port=self.node.port)
        objects = [stored_object(file) for file in files or self.files]
        try:
            with associate(peer, contexts_for(objects), calling_ae="MODALITY") as association:
                for item in objects:
                    if store(peer, association, item) == 0x0000:
                        self.acknowledged.add(item.path)
        except ConnectionError:
            return

    def send_the_rest(self) -> None:
        """Send what was not acknowledged, as a modality's own queue does."""
        self.node.until(lambda: answers(self.node))
        self.send([file for file in self.files if file not in self.acknowledged])

    def until_delivered(self) -> None:
        self.node.until(lambda: len(self.pacs.received) >= OBJECTS_PER_STUDY)

    def assert_nothing_lost_and_nothing_twice(self) -> None:
        """Check the PACS, and every acknowledged instance by its own data set, not by rows."""
        assert len(self.pacs.received) == OBJECTS_PER_STUDY
        kept = {data_set_digest(path) for path in self.objects()}
        assert {data_set_digest(path) for path in self.acknowledged} <= kept
        study = str(dcmread(self.files[0]).StudyInstanceUID)
        engine = open_ledger(f"sqlite:///{self.folder / 'data' / 'ledger.sqlite'}")
        try:
            known = {one.sop_instance_uid for one in instances.of_study(engine, study)}
            states = [task.state for task in tasks.of_study(engine, study)]
        finally:
            engine.dispose()
        assert {str(dcmread(path).SOPInstanceUID) for path in self.acknowledged} <= known
        # A study that was silent for too long in the middle has an earlier, cancelled generation.
        assert states.count(State.DONE) == 1
        assert set(states) <= {State.DONE, State.CANCELLED}

    def objects(self) -> list[Path]:
        return list((self.folder / "data" / "objects").rglob("*.dcm"))

    def attempts(self) -> int:
        study = str(dcmread(self.files[0]).StudyInstanceUID)
        engine = open_ledger(f"sqlite:///{self.folder / 'data' / 'ledger.sqlite'}")
        try:
            return max(task.attempt for task in tasks.of_study(engine, study))
        finally:
            engine.dispose()


def data_set_digest(path: Path) -> str:
    """Hash of what follows the File Meta Information (PS3.10 7.1)."""
    content = path.read_bytes()
    length = int.from_bytes(content[140:144], "little")
    return hashlib.sha256(content[144 + length :]).hexdigest()


@pytest.fixture
def scene(tmp_path):
    bundle = bright_bundle(tmp_path / "bundle", hold=tmp_path / "hold")
    with (
        StandInPacs(tmp_path / "pacs", ae_title="PACS") as pacs,
        NodeProcess(tmp_path / "data", bundle, {"pacs": pacs.port}) as node,
    ):
        yield Scene(tmp_path, node, pacs)


@pytest.mark.parametrize("victim", ["inference child", "worker"])
def test_death_in_the_middle_of_a_task_costs_one_attempt(scene, victim):
    scene.hold_work()
    scene.send()
    scene.until_held()
    (child,) = scene.node.pids_of("node.inference")
    (worker,) = [pid for pid in descendants(scene.node.pid) if child in descendants(pid)]

    kill(child if victim == "inference child" else worker)
    scene.let_go()
    scene.until_delivered()

    scene.assert_nothing_lost_and_nothing_twice()
    assert set(scene.pacs.received.values()) == {1}
    assert scene.attempts() == 2
    scene.node.until(lambda: alive([child]) == [])


def test_death_of_everything_in_the_middle_of_a_task_loses_nothing(scene):
    scene.hold_work()
    scene.send()
    scene.until_held()

    scene.node.kill_everything()
    scene.let_go()
    scene.node.start()
    scene.until_delivered()

    scene.assert_nothing_lost_and_nothing_twice()
    assert set(scene.pacs.received.values()) == {1}
    assert scene.attempts() == 2


def test_death_of_the_main_process_leaves_no_orphan_and_frees_port_and_folder(scene):
    scene.hold_work()
    scene.send()
    scene.until_held()
    below = descendants(scene.node.pid)

    kill(scene.node.pid)
    scene.node.wait()
    until(lambda: alive(below) == [], seconds=20.0)
    scene.let_go()
    port = scene.node.port
    scene.node.start()
    scene.until_delivered()

    assert len(below) >= 3
    assert scene.node.port == port
    scene.assert_nothing_lost_and_nothing_twice()


def test_death_of_the_receiver_while_it_receives_loses_nothing_acknowledged(scene):
    scene.files = ball_files(scene.folder / "large", seed="large", slices=60)
    for kept in (5, 20):
        sending = threading.Thread(target=scene.send_the_rest)
        sending.start()
        scene.node.until(lambda kept=kept: len(scene.acknowledged) >= kept)
        kill(receiver_of(scene.node))
        sending.join(30.0)
    lost = set(scene.files) - scene.acknowledged

    scene.send_the_rest()
    scene.until_delivered()

    assert lost
    assert scene.acknowledged == set(scene.files)
    assert scene.node.log.count('child="receiver 0"') == 2
    kept = {data_set_digest(path) for path in scene.objects()}
    assert {data_set_digest(path) for path in scene.files} <= kept


def test_death_of_everything_before_delivery_sends_each_object_once(tmp_path):
    bundle = bright_bundle(tmp_path / "bundle")
    with StandInPacs(tmp_path / "pacs", ae_title="PACS") as gone:
        port = gone.port
    with NodeProcess(tmp_path / "data", bundle, {"pacs": port}) as node:
        scene = Scene(tmp_path, node, gone)
        scene.send()
        node.until(lambda: "will retry" in node.log)

        node.kill_everything()
        with StandInPacs(tmp_path / "pacs", ae_title="PACS", port=port) as pacs:
            scene.pacs = pacs
            node.start()
            scene.until_delivered()

            scene.assert_nothing_lost_and_nothing_twice()
            assert set(pacs.received.values()) == {1}


def test_death_of_everything_again_and_again_ends_in_one_set(scene):
    half = scene.files[: len(scene.files) // 2]
    scene.send(half)
    scene.node.kill_everything()
    scene.node.start()
    scene.send_the_rest()
    scene.node.kill_everything()
    scene.node.start()
    scene.node.until(lambda: "task started" in scene.node.log)
    scene.node.kill_everything()
    scene.node.start()
    scene.until_delivered()

    assert scene.acknowledged == set(scene.files)
    scene.assert_nothing_lost_and_nothing_twice()


def receiver_of(node: NodeProcess) -> int:
    """Return the process that has the node's port open for listening."""
    wanted = f":{node.port:04X} 00000000:0000 0A"
    lines = Path("/proc/net/tcp").read_text().splitlines()
    inodes = {line.split()[9] for line in lines if wanted in line}
    for pid in descendants(node.pid):
        links = Path(f"/proc/{pid}/fd")
        for link in links.iterdir() if links.exists() else ():
            try:
                target = str(link.readlink())
            except FileNotFoundError:
                continue
            if target.removeprefix("socket:[").removesuffix("]") in inodes:
                return pid
    raise AssertionError("nobody listens")


def answers(node: NodeProcess) -> bool:
    peer = Peer(name="node", ae_title="PELLUCID", host="127.0.0.1", port=node.port)
    return echo(peer, calling_ae="MODALITY").ok
