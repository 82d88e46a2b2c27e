"""A program that speaks the inference child's protocol and does what the order's contact says.

The contact field of the order's origin is its script: ``ok``, ``die``, ``exit``, ``hang``,
``babble``, ``error``, ``memory`` or ``environment``.
"""

import argparse
import json
import os
import signal
import socket
import sys
import threading
from pathlib import Path

from node.channel import Channel
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
        answer = SCRIPTS[order["origin"]["contact"]](folder, wire)
        channel.send(answer)


def ok(folder, wire):
    file = folder / "0.dcm"
    file.write_bytes(b"object")
    return {"kind": "result", "files": [str(file)], "seconds": {"analyze": 0.1}}


def die(folder, wire):
    os.kill(os.getpid(), signal.SIGKILL)


def leave(folder, wire):
    sys.exit(3)


def hang(folder, wire):
    threading.Event().wait()


def babble(folder, wire):
    wire.sendall(b"\xff\xff\xff\xff gibberish")
    threading.Event().wait()


def error(folder, wire):
    return {
        "kind": "error",
        "names": ["GapError", "DicomInputError", "ValueError"],
        "message": "series 1.2.3: gap of 3 mm",
        "places": ["read.py:1 read"],
    }


def environment(folder, wire):
    file = folder / "0.json"
    file.write_text(json.dumps(dict(os.environ)))
    return {"kind": "result", "files": [str(file)], "seconds": {}}


SCRIPTS = {
    "ok": ok,
    "die": die,
    "exit": leave,
    "hang": hang,
    "babble": babble,
    "error": error,
    "environment": environment,
}

if __name__ == "__main__":
    main()
