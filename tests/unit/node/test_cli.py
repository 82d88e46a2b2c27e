"""The command line: tables, JSON, one sentence for a mistake, and the right exit status."""

import json
import resource
import socket
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pydicom
import pytest

from node.cli import _explained, main
from node.commands.check import Mark, second_providers
from node.config_folder import load_config
from node.ledger import outbox, tasks
from node.log import LogStyle
from node.ownership import only_node
from node.progress import Progress, write_progress
from node.standin import StandInPacs
from node.task import DeliveryState, State
from tests import build
from tests.build_bundles import SEGMENTER, bright_voxel_weights, write_bundle
from tests.build_config import write_config
from tests.build_ledger import LONG_AGO, STUDY_UID, new_ledger, owe, ready_task

NODE_WITHOUT_PEERS = '[node]\ndata = "data"\n'
LATER = LONG_AGO + timedelta(seconds=2)


@pytest.fixture(autouse=True)
def away_from_any_configuration(tmp_path, monkeypatch):
    monkeypatch.delenv("PELLUCID_CONFIG", raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def pellucid(capsys):
    """Run a command and return exit status, standard output and standard error."""

    def run(*words):
        with pytest.raises(SystemExit) as ended:
            main([str(word) for word in words])
        printed = capsys.readouterr()
        return ended.value.code, printed.out, printed.err

    return run


@pytest.fixture
def bundle(tmp_path):
    return write_bundle(tmp_path / "bright-things", SEGMENTER, bright_voxel_weights())


@pytest.fixture
def study(tmp_path):
    build.mr_series(tmp_path / "study")
    return tmp_path / "study"


def in_a_process(*words):
    return subprocess.run(
        [sys.executable, "-m", "node.cli", *map(str, words)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_help_is_quick_and_loads_no_heavy_library():
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    code = (
        "import sys; from node.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'monai', 'pydicom', 'pynetdicom', 'sqlalchemy', 'pydantic', 'numpy'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)

    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr
    assert (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime) < 1.0


@pytest.mark.parametrize(
    "words",
    [
        "",
        "run",
        "demo",
        "analyze",
        "check",
        "status",
        "retry",
        "echo",
        "send",
        "models add",
        "explainers",
    ],
)
def test_every_command_teaches_itself(pellucid, words):
    status, out, _ = pellucid(*words.split(), "--help")

    assert status == 0
    assert "Usage: pellucid" in out


def test_the_demo_says_that_it_takes_under_a_minute(pellucid):
    assert "in under a minute" in pellucid("demo", "--help")[1]


def test_a_series_of_one_image_says_so_in_the_singular(pellucid, tmp_path, study):
    for file in sorted((tmp_path / "study").glob("*.dcm"))[1:]:
        file.unlink()

    _, _, err = pellucid("analyze", study, "--model", "phantom", "--series", "1.2", "--out", "out")

    assert ", 1 image, " in err


def test_the_version_is_told(pellucid):
    assert pellucid("--version")[1].startswith("pellucid ")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("analyze nowhere --model phantom --out out", "there is no folder 'nowhere'"),
        ("analyze empty --model phantom --out out", "no DICOM image in 'empty': 0 files looked at"),
        ("analyze file --model phantom --out out", "'file' is a file; give the folder"),
        ("analyze empty --model phantm --out out", "no model 'phantm'; did you mean 'phantom'?"),
        ("analyze empty --out out", "give either --model NAME or --bundle DIR"),
        ("analyze empty --bundle empty --out out", "can run code of its own"),
        ("analyze empty --model phantom --explain gradcam --out out", "did you mean 'grad_cam'?"),
        (
            "analyze empty --model phantom --explain occlusion:8 --out out",
            "expected occlusion:parameter=value,...",
        ),
        ("echo pacs", "there is no peer 'pacs'; none is configured"),
        ("send nowhere A@localhost:104", "there is no folder 'nowhere'"),
        ("echo A@localhost:104 --as SEVENTEEN_LETTERS", "--as: 'SEVENTEEN_LETTERS' has 17"),
        ("models show brain", "there is no model 'brain'"),
        ("models add nowhere", "there is no folder 'nowhere'"),
        ("check --config nowhere", "nowhere: there is no such folder"),
    ],
)
def test_what_is_asked_in_a_wrong_way_is_one_sentence_and_status_2(pellucid, words, sentence):
    Path("empty").mkdir()
    Path("file").touch()

    status, out, err = pellucid(*words.split())

    assert status == 2
    assert sentence in err
    assert "Traceback" not in err
    assert out == ""


def test_a_folder_without_dicom_says_how_many_files_were_looked_at(pellucid, tmp_path):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("no image")

    status, _, err = pellucid("analyze", "notes", "--model", "phantom", "--out", "out")

    assert (status, err) == (2, "pellucid: no DICOM image in 'notes': 1 file looked at\n")


def test_five_mistakes_of_a_configuration_are_five_lines(pellucid, tmp_path):
    folder = write_config(
        tmp_path,
        node='[node]\nprot = 1\nport = 0\n[peers]\npacs = ["SEVENTEEN_LETTERS", "h", 1]',
        routes='[[route]]\nname = "r"\nmodel = "phantm"',
        model="= broken",
    )

    status, out, err = pellucid("run", "--config", folder)

    assert (status, out) == (2, "")
    assert err.startswith("pellucid: the configuration has 5 mistakes:\n")
    assert len(err.splitlines()) == 6


def test_the_environment_names_the_configuration(pellucid, tmp_path, monkeypatch):
    monkeypatch.setenv("PELLUCID_CONFIG", str(write_config(tmp_path)))

    status, out, _ = pellucid("models", "list", "--json")

    assert status == 0
    assert [row["model"] for row in json.loads(out)] == ["phantom", "tissue"]


def test_an_error_that_nobody_foresaw_is_told_without_a_patients_values():
    message, status = _explained(KeyError("Doe^Jane"))

    assert status == 1
    assert message.startswith("a mistake of ours: KeyError; run again with --debug")


def test_with_debug_the_traceback_is_shown():
    done = in_a_process("models", "show", "nothing", "--debug")

    assert "Traceback" in done.stderr
    assert "MisuseError" in done.stderr


def test_a_peer_that_answers_is_told_with_its_time(pellucid, tmp_path):
    with StandInPacs(tmp_path / "pacs") as pacs:
        status, out, _ = pellucid("echo", f"STANDIN@127.0.0.1:{pacs.port}")

    assert status == 0
    assert "answers" in out


def test_a_peer_that_cannot_be_reached_is_a_finding(pellucid):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        status, _, err = pellucid("echo", f"NOBODY@127.0.0.1:{taken.getsockname()[1]}")

    assert status == 1
    assert "cannot be reached: connection refused" in err
    assert len(err.splitlines()) == 1


def test_a_folder_is_sent_and_each_answer_listed(pellucid, tmp_path, study):
    with StandInPacs(tmp_path / "pacs") as pacs:
        status, out, _ = pellucid("send", study, f"STANDIN@127.0.0.1:{pacs.port}", "--json")

        assert status == 0
        assert {row["object"] for row in json.loads(out)} == set(pacs.received)
        assert len(pacs.received) == 5


def test_a_peer_that_refuses_a_file_is_a_finding(pellucid, tmp_path, study):
    with StandInPacs(tmp_path / "pacs", answer=lambda _uid: 0xA900) as pacs:
        status, out, err = pellucid("send", study, f"STANDIN@127.0.0.1:{pacs.port}")

    assert status == 1
    assert "0xA900" in out
    assert "refused 5 of 5 files" in err


@pytest.mark.parametrize("status", [0xB007, 0x0107, 0x0111])
def test_what_a_peer_keeps_with_a_warning_or_has_already_is_sent(pellucid, tmp_path, study, status):
    with StandInPacs(tmp_path / "pacs", answer=lambda _uid: status) as pacs:
        ended, out, _ = pellucid("send", study, f"STANDIN@127.0.0.1:{pacs.port}", "--json")

    assert ended == 0
    assert {(row["accepted"], row["status"]) for row in json.loads(out)} == {
        (True, f"0x{status:04X}")
    }


def test_a_status_without_a_ledger_says_what_to_do(pellucid, tmp_path):
    folder = write_config(tmp_path, node=NODE_WITHOUT_PEERS, routes="")

    status, _, err = pellucid("status", "--config", folder)

    assert status == 1
    assert "start the node once" in err


def test_the_status_counts_what_is_in_the_ledger(pellucid, tmp_path):
    folder = write_config(tmp_path, node=NODE_WITHOUT_PEERS, routes="")
    data = folder / "data"
    data.mkdir()
    engine = new_ledger(data)
    ready_task(engine, data)
    engine.dispose()

    status, out, _ = pellucid("status", "--config", folder, "--json")
    of_study = json.loads(pellucid("status", STUDY_UID, "--config", folder, "--json")[1])
    unknown = pellucid("status", "1.2.3", "--config", folder)

    assert status == 0
    assert {"what": "tasks", "state": "ready", "count": 1} in json.loads(out)["Counts"]
    assert [task["state"] for task in of_study["tasks"]] == ["ready"]
    assert unknown[0] == 1
    assert "study 1.2.3 was never received" in unknown[2]


@pytest.fixture
def ledger(tmp_path):
    """Give the ledger of a node without peers and routes, whose folder is the current one."""
    engine = new_ledger(tmp_path_with_node(tmp_path) / "data")
    yield engine
    engine.dispose()


def ended_in(engine, tmp_path, state, error):
    """Return the id of a task that a worker has given up in a state."""
    ready_task(engine, tmp_path / "data")
    held = tasks.claim(engine, "worker-0", LATER)
    tasks.give_up(engine, held, state=state, error=error, now=LATER)
    return held.id


def test_a_task_that_waits_for_a_person_says_what_to_do_until_it_is_done(
    pellucid, tmp_path, ledger
):
    task_id = ended_in(ledger, tmp_path, State.PARKED, "ModelUnavailableError: no such file")

    status, out, _ = pellucid("status", "-c", tmp_path, "--json")
    of_study = pellucid("status", STUDY_UID, "-c", tmp_path)
    retried = pellucid("retry", "task", task_id, "-c", tmp_path)
    afterwards = pellucid("status", "-c", tmp_path)

    (row,) = json.loads(out)["Waits for a person"]
    assert (status, of_study[0]) == (1, 1)
    assert row["what happened"] == "ModelUnavailableError: no such file"
    assert row["what to do"] == f"remove the cause, then: pellucid retry task {task_id}"
    assert f"pellucid retry task {task_id}" in of_study[1]
    assert (retried[0], afterwards[0]) == (0, 0)
    assert tasks.find(ledger, task_id).state is State.READY


def test_the_status_of_a_study_tells_what_became_of_its_explanations(pellucid, tmp_path, ledger):
    ready_task(ledger, tmp_path / "data")
    held = tasks.claim(ledger, "worker-0", LATER)
    told = ("lesion by LayerCAM: explanation grade A", "lesion by CAM: NOT EXPLAINED, no layer")
    tasks.finish(ledger, held, [], LATER, explained=told)

    _, out, _ = pellucid("status", STUDY_UID, "-c", tmp_path, "--json")

    (row,) = json.loads(out)["tasks"]
    assert row["explained"] == "\n".join(told)


def test_a_rejected_task_is_told_with_what_to_do_and_waits_for_nobody(pellucid, tmp_path, ledger):
    ended_in(ledger, tmp_path, State.REJECTED, "UnevenSpacingError: gap")

    status, out, _ = pellucid("status", "-c", tmp_path, "--json")

    (row,) = json.loads(out)["Rejected"]
    assert status == 0
    assert row["what happened"] == "UnevenSpacingError: gap"
    assert row["what to do"].startswith("send the study again when it is mended")


def test_what_is_owed_to_a_peer_that_is_not_configured_any_more_is_told(pellucid, tmp_path, ledger):
    owe(ledger, tmp_path / "data", destination="old-pacs", count=2)

    status, out, _ = pellucid("status", "-c", tmp_path, "--json")

    (row,) = json.loads(out)["Waits for a person"]
    assert status == 1
    assert (row["kind"], row["name"], row["state"]) == ("delivery", "old-pacs", "waiting")
    assert row["what happened"] == "owed to a peer that is not configured: 2 objects"


def test_what_waits_for_a_destination_is_told_with_reason_and_next_try(pellucid, tmp_path, ledger):
    with (tmp_path / "node.toml").open("a") as node:
        node.write('[peers]\npacs = ["PACS", "127.0.0.1", 104]\n')
    task = owe(ledger, tmp_path / "data", destination="pacs", count=3)
    first, second, _ = outbox.of_task(ledger, task.id)
    soon, later = (datetime.now(UTC) + timedelta(hours=hours) for hours in (1, 2))
    for owed, reason, due in ((first, "connection refused", later), (second, "no answer", soon)):
        tried = LATER + timedelta(seconds=owed.id)
        outbox.postpone(ledger, owed, status=None, reason=reason, not_before=due, now=tried)

    with only_node(tmp_path / "data"):
        status, out, _ = pellucid("status", "-c", tmp_path, "--json")
        of_study = json.loads(pellucid("status", STUDY_UID, "-c", tmp_path, "--json")[1])
    stopped = json.loads(pellucid("status", "-c", tmp_path, "--json")[1])
    table = pellucid("status", STUDY_UID, "-c", tmp_path)[1]

    (row,) = json.loads(out)["Waits for a destination"]
    made = LONG_AGO + timedelta(seconds=3)
    assert status == 0
    assert row == {
        "to": "pacs",
        "objects": 2,
        "since": made.isoformat(timespec="seconds"),
        "reason": "no answer",
        "next_try": soon.isoformat(timespec="seconds"),
        "what_to_do": "see whether it runs: pellucid echo pacs",
    }
    assert of_study["waiting"] == [row]
    (idle,) = stopped["Waits for a destination"]
    assert idle["next_try"] == "when the node is started"
    assert "pellucid echo pacs" in table


def test_a_refused_delivery_is_tried_again_when_a_person_says_so(pellucid, tmp_path, ledger):
    task = owe(ledger, tmp_path / "data", destination="pacs")
    (owed,) = outbox.of_task(ledger, task.id)
    outbox.refuse(ledger, owed, status=0x0124, reason="not authorized", now=LATER)

    status, _, _ = pellucid("retry", "delivery", owed.id, "-c", tmp_path)

    assert status == 0
    assert outbox.of_task(ledger, task.id)[0].state is DeliveryState.WAITING


def test_a_waiting_delivery_is_tried_now_when_a_person_says_so(pellucid, tmp_path, ledger):
    task = owe(ledger, tmp_path / "data", destination="pacs")
    (owed,) = outbox.of_task(ledger, task.id)
    far = datetime.now(UTC) + timedelta(days=1)
    outbox.postpone(ledger, owed, status=None, reason="no answer", not_before=far, now=LATER)

    status, _, _ = pellucid("retry", "delivery", owed.id, "-c", tmp_path)

    (due,) = outbox.due(ledger, "pacs", datetime.now(UTC))
    assert status == 0
    assert (due.id, due.attempt) == (owed.id, 0)


def test_all_that_is_parked_for_a_destination_is_tried_again_at_once(pellucid, tmp_path, ledger):
    task = owe(ledger, tmp_path / "data", destination="pacs", count=3)
    first, second, third = outbox.of_task(ledger, task.id)
    for one in (first, second):
        outbox.park(ledger, one, status=None, reason="refuses the token", now=LATER)
    outbox.refuse(ledger, third, status=0x0122, reason="no such kind", now=LATER)

    status, out, _ = pellucid("retry", "destination", "pacs", "-c", tmp_path)

    assert status == 0
    assert "2 objects owed to pacs: tried again" in out
    assert [one.state for one in outbox.of_task(ledger, task.id)] == [
        DeliveryState.WAITING,
        DeliveryState.WAITING,
        DeliveryState.REFUSED,
    ]


def test_what_is_delivered_is_not_tried_again(pellucid, tmp_path, ledger):
    task = owe(ledger, tmp_path / "data", destination="pacs")
    (owed,) = outbox.of_task(ledger, task.id)
    outbox.delivered(ledger, owed, 0x0000, LATER)

    status, _, err = pellucid("retry", "delivery", owed.id, "-c", tmp_path)

    assert status == 2
    assert f"delivery {owed.id} is delivered already, or does not exist" in err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("retry", "task", "9"), "there is no task 9"),
        (("retry", "task", "1"), "task 1 is ready: it waits for no person"),
        (("retry", "study", "1"), "'study' is not one of"),
        (("retry", "task", "nine"), "'nine' is no number"),
        (("retry", "destination", "pacs"), "no delivery to 'pacs' is parked"),
    ],
)
def test_what_cannot_be_retried_is_one_sentence(pellucid, tmp_path, ledger, words, sentence):
    ready_task(ledger, tmp_path / "data")

    status, _, err = pellucid(*words, "-c", tmp_path)

    assert status == 2
    assert sentence in err


def test_a_worker_whose_lease_is_over_is_not_at_work(pellucid, tmp_path, ledger):
    task_id = ready_task(ledger, tmp_path / "data")
    progress = Progress(
        worker="w", task=task_id, study_instance_uid=STUDY_UID, route="head", stage="analyze",
        done=1500, total=3000,
    )  # fmt: skip
    write_progress(tmp_path / "data", progress)

    def at_work():
        return json.loads(pellucid("status", "-c", tmp_path, "--json")[1])["At work"]

    with only_node(tmp_path / "data"):
        tasks.claim(ledger, "w", LATER)
        dead = at_work()
        tasks.reclaim_expired(ledger, datetime.now(UTC))
        tasks.claim(ledger, "w", datetime.now(UTC))
        alive = at_work()

    assert dead == []
    assert [(row["stage"], row["progress"]) for row in alive] == [("analyze", "50%")]


def test_a_node_that_is_dead_is_told_and_nothing_of_it_is_at_work(pellucid, tmp_path, ledger):
    task_id = ready_task(ledger, tmp_path / "data")
    progress = Progress(
        worker="w", task=task_id, study_instance_uid=STUDY_UID, route="head", stage="analyze"
    )
    write_progress(tmp_path / "data", progress)
    tasks.claim(ledger, "w", datetime.now(UTC))

    with only_node(tmp_path / "data"):
        alive = json.loads(pellucid("status", "-c", tmp_path, "--json")[1])
    dead = json.loads(pellucid("status", "-c", tmp_path, "--json")[1])
    told = pellucid("status", "-c", tmp_path)[1]
    of_study = pellucid("status", STUDY_UID, "-c", tmp_path)[1]

    words = "not running: start it with pellucid run"
    assert (alive["node"], len(alive["At work"])) == ("running", 1)
    assert (dead["node"], dead["At work"]) == (words, [])
    assert told.startswith(f"node: {words}\n")
    assert of_study.startswith(f"node: {words}\n")


def test_a_check_finds_what_is_wrong_and_only_warns_of_peers(pellucid, tmp_path, bundle):
    pellucid("models", "add", bundle, "--config", tmp_path, "--trust")
    (tmp_path / "node.toml").write_text(
        '[node]\ndata = "data"\n[storage]\nreserve_gb = 1e9\n'
        '[peers]\npacs = ["NOBODY", "127.0.0.1", 1]\n'
    )
    (bundle / "models" / "model.pt").write_bytes(b"changed")

    status, out, _ = pellucid("check", "--config", tmp_path, "--json")

    found = json.loads(out)
    marks = {row["thing"].split()[0]: row["mark"] for row in found["observations"][:2]}
    marks |= {row["thing"]: row["mark"] for row in found["observations"]}
    assert status == 1
    assert marks["data"] == "problem"
    assert marks["model bright-things"] == "problem"
    assert marks["peer pacs"] == "warning"
    assert found["listening"][0] == "DICOM on every interface, port 11112, as PELLUCID"


def test_a_route_without_its_model_is_a_problem(pellucid, tmp_path):
    routes = '[[route]]\nname = "head"\nmodel = "tissue"\n[[route]]\nname = "qa"\nmodel = "phantom"'
    folder = write_config(tmp_path, node=NODE_WITHOUT_PEERS, routes=routes)

    status, out, _ = pellucid("check", "--config", folder, "--json")

    found = {each["thing"]: each for each in json.loads(out)["observations"]}
    assert status == 1
    assert found["model tissue"]["mark"] == "problem"
    assert found["route head"]["mark"] == "problem"
    assert found["route head"]["words"] == "its model tissue is not available"
    assert found["route qa"]["mark"] == "ok"


def test_the_schema_names_every_file(pellucid):
    schemas = json.loads(pellucid("check", "--schema")[1])

    assert set(schemas) == {"node.toml", "routes.toml", "models/*.toml"}
    assert "from" in schemas["routes.toml"]["$defs"]["RouteTable"]["properties"]


def test_an_added_model_is_written_with_the_hash_of_every_file_and_verified(
    pellucid, tmp_path, bundle
):
    status, out, _ = pellucid("models", "add", bundle, "--config", tmp_path, "--trust")
    added = load_config(tmp_path_with_node(tmp_path)).models["bright-things"]
    verified = pellucid("models", "verify", "bright-things", "--config", tmp_path)
    again = pellucid("models", "add", bundle, "--config", tmp_path)
    (bundle / "configs" / "extra.json").write_text("{}")
    changed = pellucid("models", "verify", "bright-things", "--config", tmp_path, "--json")

    assert status == 0
    assert "review it" in out
    assert added.trusted
    assert added.bundle == bundle
    assert set(added.sha256) == {
        "configs/inference.json",
        "configs/metadata.json",
        "models/model.pt",
    }
    assert [code.meaning for code in added.labels.values()] == ["bright"]
    assert verified[0] == 0
    assert again[0] == 2
    assert "exists; review it" in again[2]
    assert changed[0] == 1
    assert "configs/extra.json is not listed" in json.loads(changed[1])[0]["words"]


def test_an_added_model_is_called_as_it_is_asked_for(pellucid, tmp_path, bundle):
    status, out, _ = pellucid("models", "add", bundle, "--name", "head-2", "-c", tmp_path)

    assert status == 0
    assert "head-2.toml" in out
    assert list(load_config(tmp_path_with_node(tmp_path)).models) == ["phantom", "head-2"]


def test_an_added_model_is_called_like_its_folder_unless_asked_otherwise(
    pellucid, tmp_path, bundle
):
    folder = bundle.rename(tmp_path / "our head_3.1 (new)")

    pellucid("models", "add", folder, "-c", tmp_path)

    assert [path.name for path in (tmp_path / "models").iterdir()] == ["our-head_3.1-new.toml"]


@pytest.mark.parametrize("name", ["../../etc/passwd", "a b", "", "-x", "phantom"])
def test_a_name_that_no_model_can_have_is_refused(pellucid, tmp_path, bundle, name):
    status, _, err = pellucid("models", "add", bundle, f"--name={name}", "-c", tmp_path)

    assert status == 2
    assert "--name" in err
    assert not (tmp_path / "models").exists()


def tmp_path_with_node(tmp_path):
    (tmp_path / "node.toml").write_text(NODE_WITHOUT_PEERS)
    return tmp_path


def test_a_folder_is_analyzed_without_a_pacs(pellucid, study, bundle, tmp_path):
    words = ("analyze", study, "--bundle", bundle, "--trust", "--explain", "none")
    (study / "notes.txt").write_text("no image")

    status, out, err = pellucid(*words, "--out", "out", "--arrays")

    found = json.loads((tmp_path / "out" / "analysis.json").read_text())
    segment = found["analyses"][0]["segments"][0]
    objects = [pydicom.dcmread(path) for path in sorted((tmp_path / "out").glob("*.dcm"))]
    assert (status, err) == (0, "")
    assert "bright" in out
    assert "1 file skipped: no DICOM" in out
    assert (segment["label"], segment["voxels"]) == ("bright", 1)
    assert segment["volume_ml"] == pytest.approx(2.5 * 0.9 * 1.2 / 1000)
    assert {str(each.Modality) for each in objects} >= {"SR", "SEG"}
    assert (tmp_path / "out" / "mask-bright.nii.gz").exists()
    assert (tmp_path / "out" / "preview.png").read_bytes().startswith(b"\x89PNG")
    assert "H-1" not in json.dumps(found)


def test_an_explanation_that_cannot_be_made_is_told_and_costs_no_finding(
    pellucid, study, bundle, tmp_path
):
    status, out, err = pellucid(
        "analyze", study, "--bundle", bundle, "--trust", "--explain", "layer_cam",
        "--out", "out",
    )  # fmt: skip

    (found,) = json.loads((tmp_path / "out" / "analysis.json").read_text())["analyses"]
    assert (status, err) == (0, "")
    assert [segment["label"] for segment in found["segments"]] == ["bright"]
    assert found["explanations"] == []
    assert [each["method"] for each in found["failed_explanations"]] == ["layer_cam"]
    assert found["failed_explanations"][0]["reason"]
    assert "NOT EXPLAINED" in out


def test_the_same_method_may_explain_twice_with_other_parameters(pellucid, study, bundle, tmp_path):
    coarse, fine = "occlusion:cells=2,refine=[1]", 'occlusion:cells=2,refine=[1, 1],of=["bright"]'

    status, out, err = pellucid(
        "analyze", study, "--bundle", bundle, "--trust", "--explain", coarse, "--explain", fine,
        "--arrays", "--out", "out",
    )  # fmt: skip

    (found,) = json.loads((tmp_path / "out" / "analysis.json").read_text())["analyses"]
    assert (status, err) == (0, "")
    assert [each["parameters"]["refine"] for each in found["explanations"]] == ["[1]", "[1, 1]"]
    assert {each["method"] for each in found["explanations"]} == {"occlusion"}
    assert sorted(path.name for path in (tmp_path / "out").glob("relevance-*")) == [
        "relevance-bright-occlusion-2.nii.gz",
        "relevance-bright-occlusion.nii.gz",
    ]
    assert "occlusion" in out


@pytest.mark.parametrize(
    ("explain", "sentence"),
    [
        ("occlusion:of=brigt", "asked about 'brigt': model 'bright-things' has no such label; did"),
        ("occlusion:against=dark", "asked about 'dark': model 'bright-things' has no such label"),
        ("occlusion:of=bright,against=bright", "is asked why 'bright' and not the same"),
        ("occlusion:cells=many", 'cells = "many" is not accepted; expected a whole number, as 0'),
        ("occlusion:window=8", "explainer 'occlusion' has no parameter 'window'"),
    ],
)
def test_what_a_method_is_asked_in_a_wrong_way_is_one_sentence(
    pellucid, study, bundle, tmp_path, explain, sentence
):
    status, out, err = pellucid(
        "analyze", study, "--bundle", bundle, "--trust", "--explain", explain, "--out", "out"
    )

    assert (status, out) == (2, "")
    assert sentence in err
    assert not (tmp_path / "out").exists()


def test_an_explanation_that_may_not_take_so_many_passes_is_told(pellucid, study, bundle, tmp_path):
    status, out, _ = pellucid(
        "analyze", study, "--bundle", bundle, "--trust", "--explain", "occlusion",
        "--forwards", "5", "--out", "out",
    )  # fmt: skip

    (found,) = json.loads((tmp_path / "out" / "analysis.json").read_text())["analyses"]
    assert status == 0
    assert found["failed_explanations"][0]["reason"].startswith(
        "occlusion needs at least 28 forward passes, the budget has 5"
    )
    assert "NOT EXPLAINED" in out


def test_a_route_that_names_a_label_which_its_model_does_not_have_is_a_problem(pellucid, tmp_path):
    routes = (
        '[[route]]\nname = "qa"\nmodel = "phantom"\n'
        'explain = [{ method = "occlusion", of = ["Synthetic lesson"] }]'
    )
    folder = write_config(tmp_path, node=NODE_WITHOUT_PEERS, routes=routes)

    status, out, _ = pellucid("check", "--config", folder, "--json")

    found = {each["thing"]: each for each in json.loads(out)["observations"]}
    assert status == 1
    assert found["route qa"]["mark"] == "problem"
    assert found["route qa"]["words"].endswith("no such label; did you mean 'Synthetic lesion'?")


def test_a_mask_written_as_nifti_lies_where_the_marker_is(pellucid, study, bundle, tmp_path):
    import nibabel

    pellucid(
        "analyze", study, "--bundle", bundle, "--trust", "--explain", "none", "--out", "out",
        "--arrays",
    )  # fmt: skip

    mask = nibabel.load(tmp_path / "out" / "mask-bright.nii.gz")
    index = np.argwhere(np.asarray(mask.dataobj))[0]
    ras = mask.affine @ [*index, 1]
    marker = build.affine_of("axial") @ [*build.marker_index((5, 8, 10)), 1]
    assert ras[:3] == pytest.approx(marker[:3] * [-1, -1, 1], abs=1e-4)


def test_the_same_folder_gives_the_same_identifiers_again(pellucid, study, bundle, tmp_path):
    words = ("analyze", study, "--bundle", bundle, "--trust", "--explain", "none")

    pellucid(*words, "--out", "one")
    pellucid(*words, "--out", "two")

    first, second = (
        {str(pydicom.dcmread(path).SOPInstanceUID) for path in (tmp_path / name).glob("*.dcm")}
        for name in ("one", "two")
    )
    assert first
    assert first == second


def test_several_series_that_suit_are_listed_and_none_is_guessed(pellucid, study, bundle):
    volume = build.marked_volume(modality="MR")
    other = build.stored(study / "other", build.slice_datasets(volume, seed="other"))
    words = ("analyze", study, "--bundle", bundle, "--trust", "--explain", "none", "--out", "out")

    status, _, err = pellucid(*words)
    chosen = pellucid(*words, "--series", other.series_instance_uid, "--json")
    absent = pellucid(*words, "--series", "1.2.3")

    assert status == 2
    assert "several series suit; choose one with --series UID:" in err
    assert other.series_instance_uid in err
    assert chosen[0] == 0
    analysis = json.loads(chosen[1])["analyses"][0]
    assert analysis["series_instance_uid"] == other.series_instance_uid
    assert absent[0] == 2


def test_a_copy_of_a_file_is_one_image_but_two_files_of_one_identifier_are_refused(
    pellucid, study, bundle
):
    words = ("analyze", study, "--bundle", bundle, "--trust", "--explain", "none", "--out")
    (study / "copy.dcm").write_bytes((study / "0000.dcm").read_bytes())

    copied = pellucid(*words, "one")
    changed = pydicom.dcmread(study / "copy.dcm")
    changed.PixelData = bytes(len(changed.PixelData))
    changed.save_as(study / "copy.dcm")
    clashing = pellucid(*words, "two")

    assert copied[0] == 0
    assert clashing[0] == 1
    assert changed.SOPInstanceUID in clashing[2]
    assert "2 times, expected once" in clashing[2]


def test_a_second_provider_of_our_packages_is_a_problem():
    found = list(second_providers({"node": ["pellucid", "node"], "ai": ["pellucid"]}))

    assert [each.thing for each in found] == ["package node"]
    assert found[0].mark is Mark.PROBLEM
    assert "virtual environment of its own" in found[0].words


def test_a_refused_analysis_leaves_no_folder_that_it_made(pellucid, study, bundle, tmp_path):
    words = ("analyze", study, "--bundle", bundle, "--trust", "--explain", "none", "--out")
    clashing = pydicom.dcmread(study / "0000.dcm")
    clashing.PixelData = bytes(len(clashing.PixelData))
    clashing.save_as(study / "clashing.dcm")
    (tmp_path / "given").mkdir()

    made = pellucid(*words, "new/folder")
    given = pellucid(*words, "given")

    assert (made[0], given[0]) == (1, 1)
    assert not (tmp_path / "new").exists()
    assert (tmp_path / "given").is_dir()


def test_results_never_fall_among_other_files(pellucid, study, bundle):
    status, _, err = pellucid(
        "analyze", study, "--bundle", bundle, "--trust", "--explain", "none", "--out", study
    )

    assert status == 2
    assert "holds other files" in err


def test_a_port_in_use_is_one_sentence(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        node = f'[node]\ndata = "data"\nbind = "127.0.0.1"\nport = {port}\n'
        folder = write_config(tmp_path, node=node, routes="")

        done = in_a_process("run", "--config", folder)

    assert done.returncode == 1
    assert str(port) in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_a_data_folder_that_cannot_be_made_is_told(tmp_path):
    folder = write_config(tmp_path, node='[node]\ndata = "/proc/data"\n', routes="")

    done = in_a_process("run", "--config", folder)

    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "pellucid: No such file or directory: /proc/data"
    assert "Traceback" not in done.stderr


def test_too_little_room_is_told_before_the_node_runs(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        node = f'[node]\ndata = "data"\nbind = "127.0.0.1"\nport = {taken.getsockname()[1]}\n'
        folder = write_config(tmp_path, node=node + "[storage]\nreserve_gb = 1e9", routes="")

        done = in_a_process("run", "--config", folder)

    assert "GB must stay free: senders are told to come back later (0xA700)" in done.stderr


def test_the_log_has_a_style_for_machines():
    assert {style.value for style in LogStyle} == {"text", "json"}
