"""What would be caught: mistakes put into the node on purpose, and who finds them.

SIGKILL leaves what the kernel has not written yet: mistakes about fsync are found by the journal
of what was made durable.
"""

import re
from pathlib import Path

import pytest

from tests.build_ledger import ledger_url
from tests.fault import oracle, zombies
from tests.fault.durability import receive_with_a_journal
from tests.fault.mutants import Mutant, changed_packages
from tests.fault.points import Act, Faults
from tests.fault.trials import Receiver, a_hospital, crash, kill_a_receiver

pytestmark = pytest.mark.slow

#: How long a mutant may take to show that nothing comes any more.
SECONDS = 30.0


def kill_receiver(folder: Path, database: str, faults: Faults, mutant: Mutant) -> None:
    with Receiver(folder, database, faults) as receiver:
        kill_a_receiver(receiver, mutant.point)


def kill_node(folder: Path, database: str, faults: Faults, mutant: Mutant) -> None:
    with a_hospital(folder, database, faults) as hospital:
        modality = crash(hospital, mutant.point, Act.KILL, seconds=SECONDS)
        assert hospital.times_sent(modality) == 1, oracle.NOT_ONE_SET


def keep_journal(folder: Path, database: str, faults: Faults, mutant: Mutant) -> None:
    receive_with_a_journal(folder, database, faults)


def stand_still(folder: Path, database: str, faults: Faults, mutant: Mutant) -> None:
    zombies.wake_while_another_works(folder, database, faults, SECONDS)


QUICK = (
    Mutant(
        name="acknowledged before it is stored",
        file="node/recorder.py",
        old="        self._going += 1\n",
        new="        self._going += 1\n"
        "        type(self)._tell(self, number, 0)\n"
        "        self._tell = lambda *_: None\n",
        caught=oracle.LOST,
        trial=kill_receiver,
        point="pellucid.receive.arrived",
    ),
    Mutant(
        name="stored under the peer's UID",
        file="node/unkept.py",
        old="        digest = self._finished.digest\n",
        new="        import pydicom\n"
        "        digest = str(pydicom.dcmread(self._path, force=True).SOPInstanceUID)\n",
        caught=oracle.NOT_WHOLE,
        trial=kill_receiver,
        point="pellucid.store.folder_synced",
    ),
    Mutant(
        name="no duplicate check",
        file="node/ledger/instances.py",
        old="    if any(each.digest == arrival.digest for each in held) or adopt(\n",
        new="    if adopt(\n",
        caught=oracle.UNFILED,
        trial=kill_receiver,
        point="pellucid.store.part_synced",
    ),
    Mutant(
        name="rename without fsync",
        file="node/unkept.py",
        old="            yield Sync(self.descriptor)\n",
        new="",
        caught=oracle.NOT_DURABLE,
        trial=keep_journal,
    ),
    Mutant(
        name="no fsync of the folder",
        file="node/unkept.py",
        old="                yield Sync(folder)\n",
        new="                yield from ()\n",
        caught=oracle.NOT_DURABLE,
        trial=keep_journal,
    ),
    Mutant(
        name="no fsync of the names of spares",
        file="node/landing.py",
        old="            yield Sync(self._names)\n",
        new="            yield from ()\n",
        caught=oracle.NOT_DURABLE,
        trial=keep_journal,
    ),
    Mutant(
        name="what has landed is forgotten",
        file="node/recovery.py",
        old="    for path in landing.left():\n",
        new="    for path in ():\n",
        caught=oracle.UNFILED,
        trial=kill_receiver,
        point="pellucid.store.renamed",
    ),
    Mutant(
        name="its first name goes before its row is there",
        file="node/unkept.py",
        old="        if not self._is_owed:\n            self._path.rename(path)\n",
        new="        if True:\n            self._path.rename(path)\n",
        caught=oracle.UNKNOWN,
        trial=kill_receiver,
        point="pellucid.store.folder_synced",
    ),
)
LONG = (
    Mutant(
        name="study and task in two transactions",
        file="node/ledger/studies.py",
        old='        sys.audit("pellucid.ledger.study_closed")\n        added',
        new='    sys.audit("pellucid.ledger.study_closed")\n'
        "    with engine.begin() as connection:\n        added",
        caught=oracle.UNANSWERED,
        trial=kill_node,
        point="pellucid.ledger.study_closed",
    ),
    Mutant(
        name="task and deliveries in two transactions",
        file="node/ledger/tasks.py",
        old="        if done:\n            outbox.owe(",
        new='    sys.audit("pellucid.mutant.between")\n'
        "    with engine.begin() as connection:\n        if done:\n            outbox.owe(",
        caught=oracle.UNANSWERED,
        trial=kill_node,
        point="pellucid.mutant.between",
    ),
    Mutant(
        name="delivered before it is sent",
        file="node/deliver.py",
        old='            return\n        sys.audit("pellucid.deliver.sending")\n',
        new="            return\n        outbox.delivered(self._engine, delivery, 0, _now())\n"
        '        sys.audit("pellucid.deliver.sending")\n',
        caught=oracle.UNANSWERED,
        trial=kill_node,
        point="pellucid.deliver.sending",
    ),
    Mutant(
        name="no lease expiry",
        file="node/ledger/tasks.py",
        old="_interrupt(connection, task.c.lease_until < now, ",
        new="() and _interrupt(connection, task.c.lease_until < now, ",
        caught=oracle.ABANDONED,
        trial=stand_still,
    ),
    Mutant(
        name="no fence",
        file="node/ledger/tasks.py",
        old="    return (task.c.id == held.id) & (task.c.token == held.token)\n",
        new="    return task.c.id == held.id\n",
        caught=oracle.ZOMBIE,
        trial=stand_still,
    ),
)


@pytest.mark.parametrize(
    "mutant",
    [*QUICK, *(pytest.param(mutant, marks=pytest.mark.fault) for mutant in LONG)],
    ids=lambda mutant: mutant.name,
)
def test_mistake_is_found(tmp_path, mutant):
    packages = changed_packages(tmp_path / "packages", mutant)
    faults = Faults(tmp_path / "faults", packages=packages)
    (tmp_path / "data").mkdir()

    with pytest.raises(AssertionError, match=re.escape(mutant.caught)):
        mutant.trial(tmp_path, ledger_url(tmp_path / "data"), faults, mutant)
