"""The service's child processes: what ends them is told without a patient's values."""

import logging
import os
import subprocess
import sys
from dataclasses import replace
from multiprocessing import get_context

from node import spawned
from node.log import LogStyle
from tests.build_ledger import new_ledger
from tests.unit.node.test_worker import settings

THREAD = """
import threading
from node.log import configure_logging, tell_thread_errors

def fail():
    raise KeyError("Canary^Yellow")

configure_logging()
tell_thread_errors()
thread = threading.Thread(target=fail)
thread.start()
thread.join()
"""


def test_a_worker_that_ends_by_an_error_quotes_nobodys_values(tmp_path, capfd):
    new_ledger(tmp_path).dispose()
    broken = replace(settings(tmp_path, "ok"), name=("CANARY",))
    birth = spawned.Birth(parent_pid=os.getpid(), log_level=logging.INFO, log_style=LogStyle.TEXT)

    process = get_context("spawn").Process(target=spawned.work, args=(broken, birth))
    process.start()
    process.join(60.0)

    told = capfd.readouterr().err
    assert process.exitcode == 1
    assert "event=process_failed" in told
    assert "CANARY" not in told


def test_a_thread_that_ends_by_an_error_quotes_nobodys_values():
    ended = subprocess.run(
        [sys.executable, "-c", THREAD], capture_output=True, text=True, check=True
    )

    assert "KeyError" in ended.stderr
    assert "Canary" not in ended.stderr
