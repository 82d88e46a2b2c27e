"""A program that speaks the inference child's protocol and does what the order's contact says.

The contact field of the order's origin names one of ``SCRIPTS``.
"""

import argparse
import json
import os
import signal
import socket
import sys
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from node.channel import CALL_OFF, Channel
from node.process import die_with_parent


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--channel", type=int)
    parser.add_argument("--parent", type=int)
    parser.add_argument("--memory-bytes", type=int)
    arguments = parser.parse_args()
    die_with_parent(arguments.parent)
    wire = socket.socket(fileno=arguments.channel)
    channel = Channel(wire)
    channel.send({"kind": "started", "network": False})
    while True:
        order = channel.receive()
        folder = Path(order["folder"])
        folder.mkdir(parents=True, exist_ok=True)
        channel.send({"kind": "stage", "stage": "analyze"})
        answer = SCRIPTS[order["origin"]["contact"]](folder, wire, order)
        channel.send(answer)


def ok(folder, wire, order):
    return result(write(folder, order))


def two(folder, wire, order):
    return result(write(folder, order), write(folder, order, index=2))


def other_patient(folder, wire, order):
    return result(write(folder, order, patient_id="SOMEONE ELSE"))


def other_study(folder, wire, order):
    return result(write(folder, order, study_instance_uid="1.2.3"))


def other_file(folder, wire, order):
    return result(Path(order["study"]["series"][0]["instances"][0]["path"]))


def link(folder, wire, order):
    name = folder / "0.dcm"
    name.symlink_to(order["study"]["series"][0]["instances"][0]["path"])
    return result(name)


def out_of_memory(folder, wire, order):
    return {"kind": "error", "names": ["OutOfMemoryError"], "message": "", "places": []}


def disk_full(folder, wire, order):
    message = "[Errno 28] No space left on device"
    return {"kind": "error", "names": ["OSError", "Exception"], "message": message, "places": []}


def mistake(folder, wire, order):
    return {
        "kind": "error",
        "names": ["KeyError", "LookupError", "Exception"],
        "message": order["study"]["series"][0]["instances"][0]["patient_id"],
        "places": ["encode.py:7 encode"],
    }


def die_once(folder, wire, order):
    """Die at the first order of a task folder's parent, fulfill the next one."""
    mark = folder.parent.parent / "died-once"
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return ok(folder, wire, order)


def write(folder, order, *, index=1, **changes):
    from tests.build_ledger import write_instance

    instance = order["study"]["series"][0]["instances"][0]
    fields = {
        "patient_id": instance["patient_id"],
        "study_instance_uid": instance["study_instance_uid"],
        **changes,
    }
    return write_instance(folder, f"2.25.{index}", **fields)


def result(*files):
    return {"kind": "result", "files": [str(file) for file in files], "seconds": {"analyze": 0.1}}


def die(folder, wire, order):
    os.kill(os.getpid(), signal.SIGKILL)


def leave(folder, wire, order):
    sys.exit(3)


def hang(folder, wire, order):
    threading.Event().wait()


def explain_half(folder, wire, order):
    """Be half through, and stay there."""
    Channel(wire).send({"kind": "progress", "done": 1500, "total": 3000})
    threading.Event().wait()


def explain_until_called_off(folder, wire, order):
    """Explain until the order is called off, and be well."""
    channel = Channel(wire)
    channel.send({"kind": "progress", "done": 1500, "total": 3000})
    assert channel.receive() == CALL_OFF
    return {"kind": "error", "names": ["ExplanationCancelledError"], "message": "", "places": []}


def babble(folder, wire, order):
    wire.sendall(b"\xff\xff\xff\xff gibberish")
    threading.Event().wait()


def error(folder, wire, order):
    return {
        "kind": "error",
        "names": ["GapError", "DicomInputError", "ValueError"],
        "message": "series 1.2.3: gap of 3 mm",
        "places": ["read.py:1 read"],
    }


def named(folder, wire, order):
    """Make a report and a picture, and say which is which."""
    report = write(folder, order, sop_class_uid="1.2.840.10008.5.1.4.1.1.88.22")
    picture = write(folder, order, index=2, sop_class_uid="1.2.840.10008.5.1.4.1.1.7")
    return {**result(report, picture), "results": ["report", "overlay"]}


def misnamed(folder, wire, order):
    return {**result(write(folder, order)), "results": ["report"]}


def unsuitable(folder, wire, order):
    return {
        "kind": "error",
        "names": ["UnsuitableInputError", "ValueError"],
        "message": "series 1.2.3: modality MR, the model is meant for CT",
        "places": ["intended_use.py:1 require"],
    }


def no_model(folder, wire, order):
    return {
        "kind": "error",
        "names": ["ModelUnavailableError", "RuntimeError"],
        "message": "model tissue: model.pt is missing",
        "places": ["bundle_files.py:1 require"],
    }


def keep_order(folder, wire, order):
    """Put the order down beside the data folder's work, and fulfill it."""
    (folder.parent.parent / "order.json").write_text(json.dumps(order["origin"]))
    return ok(folder, wire, order)


def environment(folder, wire, order):
    file = folder / "0.json"
    file.write_text(json.dumps(dict(os.environ)))
    return result(file)


SCRIPTS = {
    "ok": ok,
    "two": two,
    "other patient": other_patient,
    "other study": other_study,
    "other file": other_file,
    "link": link,
    "die": die,
    "die once": die_once,
    "exit": leave,
    "hang": hang,
    "explain half": explain_half,
    "explain until called off": explain_until_called_off,
    "babble": babble,
    "error": error,
    "out of memory": out_of_memory,
    "disk full": disk_full,
    "mistake": mistake,
    "environment": environment,
    "named": named,
    "misnamed": misnamed,
    "unsuitable": unsuitable,
    "no model": no_model,
    "keep order": keep_order,
}

if __name__ == "__main__":
    main()
