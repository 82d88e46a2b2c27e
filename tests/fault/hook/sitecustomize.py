"""Has a process of the node die or fail at a point, as the order in ``PELLUCID_FAULTS`` says.

Every Python that finds this folder on its PYTHONPATH reads this file when it starts. The folder of
``PELLUCID_FAULTS`` holds at most one order, which ``tests.fault.points`` writes. With
``PELLUCID_JOURNAL`` the process also tells what it makes durable, in that file.
"""

import errno
import importlib.machinery
import importlib.util
import json
import os
import signal
import sys
from collections import Counter
from pathlib import Path

HERE = Path(__file__).parent
INHERITED = ("PYTHONPATH", "PELLUCID_FAULTS", "PELLUCID_JOURNAL")


class Obeying:
    """An audit hook that obeys the order in a folder."""

    def __init__(self, folder):
        self.order, self.hit = Path(folder, "order"), Path(folder, "hit")
        self.reached = set()
        #: How often this process has come to the point of each order.
        self.counted = Counter()

    def __call__(self, event, arguments):
        if event == "subprocess.Popen":
            pass_on(arguments)
        if event.startswith("pellucid."):
            self.reached.add(event)
            wanted = self.wanted()
            if wanted and wanted["point"] == event and self.is_meant(wanted):
                act(wanted["act"])

    def wanted(self):
        try:
            return json.loads(self.order.read_text())
        except FileNotFoundError:
            return None

    def is_meant(self, wanted):
        """Return whether this process is the one to obey; one alone is, if once."""
        if not self.reached.issuperset(wanted["after"]):
            return False
        self.counted[wanted["number"]] += 1
        if self.counted[wanted["number"]] <= wanted["skip"]:
            return False
        try:
            if wanted["once"]:
                self.order.rename(self.hit)
            else:
                self.hit.touch()
            self.hit.write_text(str(os.getpid()))
        except FileNotFoundError:
            return False
        return True


def act(what):
    if what == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "cut":
        os.killpg(0, signal.SIGKILL)
    if what == "MemoryError":
        raise MemoryError("as a test has ordered")
    raise OSError(getattr(errno, what), os.strerror(getattr(errno, what)))


def pass_on(arguments):
    """Let the inference child, whose environment is bare, find this file, too."""
    _, command, _, environment = arguments
    if environment is not None and "node.inference" in command:
        environment.update({name: os.environ[name] for name in INHERITED if name in os.environ})


def keep_journal(path):
    """Write down every fsync and every rename, and the points between them, as they happen."""
    journal = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def told(*words):
        os.write(journal, ("\t".join(map(str, words)) + "\n").encode())

    def hear(event, arguments):
        if event == "pellucid.receive.synced":
            told(*synced(*arguments))
        elif (
            event == "open" and str(arguments[0]).endswith(".landing") and arguments[2] & os.O_CREAT
        ):
            told("created", arguments[0])
        elif event.startswith("pellucid."):
            told(event)

    os.fsync = recording(os.fsync, synced, told)
    os.replace = recording(os.replace, renamed, told)
    os.rename = recording(os.rename, renamed, told)
    os.link = recording(os.link, renamed, told)
    sys.addaudithook(hear)


def recording(function, describe, tell):
    def recorded(*arguments, **options):
        words = describe(*arguments)
        result = function(*arguments, **options)
        tell(*words)
        return result

    return recorded


def synced(descriptor):
    number = descriptor if isinstance(descriptor, int) else descriptor.fileno()
    return "synced", Path(f"/proc/self/fd/{number}").readlink()


def renamed(source, target, *_):
    return "renamed", os.fspath(source), os.fspath(target)


def run_the_next_one():
    """Run the ``sitecustomize`` that this one stands in front of, if there is one."""
    paths = [path for path in sys.path if Path(path) != HERE]
    found = importlib.machinery.PathFinder.find_spec("sitecustomize", paths)
    if found is not None and found.loader is not None:
        found.loader.exec_module(importlib.util.module_from_spec(found))


if "PELLUCID_JOURNAL" in os.environ:
    keep_journal(os.environ["PELLUCID_JOURNAL"])
if "PELLUCID_FAULTS" in os.environ:
    sys.addaudithook(Obeying(os.environ["PELLUCID_FAULTS"]))
run_the_next_one()
