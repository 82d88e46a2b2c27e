"""The readers of what a stranger sends, fuzzed by what their own branches show: atheris, libFuzzer.

Seeded with the hostile corpus. An input that ends otherwise than by a documented error, takes
longer than two minutes or more than 256 MB of memory is written to ``build/guided``;
``python -m tests.fault.guided TARGET FILE`` tries it again.
"""

import importlib.util
import os
import re
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from dicom_io.part10 import part10_head
from tests import peers
from tests.build_wire import EXPLICIT, MR_IMAGE, image
from tests.fault.fuzzing import fragmented
from tests.fault.hostile_corpus import JPEG, UID, corpus
from tests.fault.mutants import Mutant, changed_packages
from tests.fault.pdu import IMPLICIT, P_DATA, echo_command, store_command, store_pdus

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
WRITTEN = ROOT / "build" / "guided"
#: As in ``tests.fault.guided``, which cannot be imported where atheris is not.
SYNTAXES = (EXPLICIT, IMPLICIT, JPEG)
#: A longer input teaches nothing and takes its time.
LARGEST_SEED = 1 << 13
#: Inputs of a target, in a run of some seconds and in one of a minute.
FEW = {"walk": 3_000, "messages": 5_000}
MANY = {
    "walk": 200_000, "taken": 100_000, "header": 20_000, "messages": 200_000, "command": 400_000
}  # fmt: skip

MISTAKE = Mutant(
    name="every C-STORE request is thought to have a Message ID",
    file="node/command_set.py",
    old='            message_id=_number(self.elements.get(_MESSAGE_ID, b"")),\n',
    new="            message_id=_number(self.elements[_MESSAGE_ID]),\n",
    caught="KeyError: 272",
    trial=print,
)


@pytest.fixture
def fuzz(tmp_path):
    """Give a function that fuzzes a target; it returns exit status and what was said."""
    if importlib.util.find_spec("atheris") is None:
        peers.absent(
            "atheris is not here: it has wheels for Python 3.11 to 3.13, pip install atheris"
        )

    def run(target, *, runs, packages=None, written=WRITTEN):
        seeds = tmp_path / "seeds"
        seeds.mkdir()
        for number, content in enumerate(SEEDS[target]()):
            (seeds / str(number)).write_bytes(content)
        grown = tmp_path / "grown"
        grown.mkdir()
        written.mkdir(parents=True, exist_ok=True)
        limits = ["-seed=1", f"-runs={runs}", "-max_len=16384", "-timeout=120"]
        command = [sys.executable, "-m", "tests.fault.guided", target, *limits]
        paths = [str(path) for path in (packages, ROOT) if path is not None]
        ended = subprocess.run(
            [*command, f"-artifact_prefix={written}/{target}-", "-close_fd_mask=0", grown, seeds],
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            cwd=packages or ROOT,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        )
        return ended.returncode, ended.stdout + ended.stderr

    return run


def datasets():
    """Return the encoded data sets of the corpus, each behind a byte that says its syntax."""
    return [
        bytes([SYNTAXES.index(case.syntax)]) + case.content
        for case in corpus()
        if len(case.content) <= LARGEST_SEED
    ]


def files():
    """Return the files that the data sets would be stored as."""
    return [part10_head(MR_IMAGE, UID, SYNTAXES[each[0]]) + each[1:] for each in datasets()]


def bodies():
    """Return the P-DATA-TF PDUs of associations, each behind its length."""
    small = [*store_pdus(image("2.25.1"), message=1, size=333), *store_pdus(image("2.25.2"))]
    return [
        b"".join(struct.pack(">H", len(pdu) - 6) + pdu[6:] for pdu in pdus if pdu[0] == P_DATA)
        for pdus in (fragmented(), small)
    ]


def commands():
    return [echo_command(1), store_command(UID), store_command("x" * 65, sop_class="")]


SEEDS = {
    "walk": datasets,
    "taken": datasets,
    "header": files,
    "messages": bodies,
    "command": commands,
}


def require_no_finding(status, said, runs):
    assert status == 0, said[-3000:]
    # Fewer would mean that it ended early; without new coverage nothing was instrumented.
    assert f"Done {runs} runs" in said, said[-3000:]
    covered = [int(found) for found in re.findall(r"cov: (\d+)", said)]
    assert covered[-1] > 10, said[-3000:]


@pytest.mark.parametrize("target", FEW)
def test_nothing_but_documented_errors_comes_of_some_inputs(fuzz, target):
    status, said = fuzz(target, runs=FEW[target])

    require_no_finding(status, said, FEW[target])


@pytest.mark.fault
@pytest.mark.parametrize("target", MANY)
def test_nothing_but_documented_errors_comes_of_many_inputs(fuzz, target):
    status, said = fuzz(target, runs=MANY[target])

    require_no_finding(status, said, MANY[target])


@pytest.mark.fault
def test_mistake_that_no_seed_shows_is_found(fuzz, tmp_path):
    packages = changed_packages(tmp_path / "packages", MISTAKE)

    status, said = fuzz("command", runs=200_000, packages=packages, written=tmp_path / "found")

    assert status != 0
    assert MISTAKE.caught in said
    (found,) = (tmp_path / "found").iterdir()
    assert found.read_bytes() not in commands()
