"""The real inference child: it does its work, and cannot do anything else."""

import os
import socket
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ai.settings import ModelSettings
from dicom_io.header import read_header
from dicom_io.origin import Origin
from dicom_io.study import group_studies
from node.channel import Channel
from node.child import AbandonedError, ChildSettings, InferenceChild, RemoteError
from node.config import ExplainSpec, plan_of
from node.errors import Decision, decide_by_name
from node.inference import ResidentModels
from node.order import Order
from tests.build_bundles import SEGMENTER, bright_voxel_weights, write_bundle
from tests.fakes import ball_config, ball_files, bright_bundle


@pytest.fixture(scope="module")
def child(tmp_path_factory):
    started = InferenceChild(ChildSettings(folder=tmp_path_factory.mktemp("child") / "0"))
    yield started
    started.end()


def order_for(
    folder: Path, bundle: Path, *, drop: int = 0, explain: tuple[ExplainSpec, ...] = ()
) -> Order:
    config = ball_config(folder / "data", bundle, {})
    paths = ball_files(folder / "study")
    (study,) = group_studies(
        read_header(path) for index, path in enumerate(paths) if not drop or index != drop
    )
    origin = Origin(
        study_instance_uid=study.study_instance_uid,
        input_sop_instance_uids=tuple(one.sop_instance_uid for one in study.instances),
        route="bright",
        config_hash="ab",
        created=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        site=config.site,
        software_version="0.1",
    )
    (route,) = config.routes
    steps = tuple(replace(step, explain=explain or step.explain) for step in route.steps)
    plan = plan_of(config, replace(route, steps=steps))
    return Order(study=study, origin=origin, plan=plan, folder=folder / "task")


def run(child: InferenceChild, order: Order):
    told: list[str] = []
    result = child.run(
        order, wanted=lambda: True, told=lambda message: told.append(message.get("stage", ""))
    )
    return result, [stage for stage in told if stage]


def test_order_is_fulfilled_into_files_of_the_task_folder(child, tmp_path):
    order = order_for(tmp_path, bright_bundle(tmp_path / "bundle"))

    result, stages = run(child, order)

    headers = [read_header(file) for file in result.files]
    assert {header.study_instance_uid for header in headers} == {order.study.study_instance_uid}
    assert {file.parent for file in result.files} == {order.folder}
    assert stages == ["load", "read", "analyze", "gate", "encode", "write"]
    assert set(result.seconds) == set(stages)


def test_explanation_that_cannot_be_made_is_told_beside_the_results(child, tmp_path):
    bundle = bright_bundle(tmp_path / "bundle")
    order = order_for(tmp_path, bundle, explain=(ExplainSpec(method="layer_cam"),))

    result, _ = run(child, order)

    assert result.files
    assert len(result.failures) == 1
    assert result.failures[0].startswith("Severe by LayerCAM: NOT EXPLAINED, ")


def test_every_number_about_an_explanation_is_told_beside_the_results(child, tmp_path):
    spec = ExplainSpec(method="input_x_gradient")
    order = order_for(tmp_path, bright_bundle(tmp_path / "bundle"), explain=(spec,))

    result, _ = run(child, order)

    (told,) = result.explained
    assert told.startswith("Severe by input x gradient: explanation grade ")
    for measure in ("integrity 1", "comprehensiveness", "stability", "edges", "intensity"):
        assert f"{measure} " in told
    assert "(limit 0.7): passed" in told


#: Some ten seconds of work in very many small passes.
LONG = ExplainSpec(method="occlusion", parameters={"cells": 20, "refine": (4000, 4000)})


def test_an_order_that_is_called_off_ends_soon_and_leaves_the_model_resident(child, tmp_path):
    bundle = bright_bundle(tmp_path / "bundle")
    short = order_for(tmp_path / "short", bundle)
    run(child, short)
    pid, shares = child.pid, []

    def note(message):
        if message["kind"] == "progress":
            shares.append(message["done"] / message["total"])

    with pytest.raises(AbandonedError):
        child.run(
            order_for(tmp_path / "long", bundle, explain=(LONG,)),
            wanted=lambda: not shares or shares[-1] <= 0.5,
            told=note,
        )
    result, _ = run(child, short)

    assert 0.5 < shares[-1] < 1
    assert shares == sorted(shares)
    assert child.pid == pid
    assert result.seconds["load"] < 0.1
    assert not list((tmp_path / "long").glob("task/*"))


def test_when_the_time_for_explaining_is_over_the_findings_are_written(child, tmp_path):
    order = order_for(tmp_path, bright_bundle(tmp_path / "bundle"), explain=(LONG, LONG))
    budget = replace(order.plan.budget, minutes=0.02)
    hurried = replace(order, plan=replace(order.plan, budget=budget))

    result, _ = run(child, hurried)

    assert len(result.files) == 2
    assert result.failures[-1] == (
        "Severe by occlusion: NOT EXPLAINED, the time for explaining was over before it was begun"
    )


def test_a_budget_that_is_too_small_is_told_with_what_it_would_take(child, tmp_path):
    bundle, gradients = bright_bundle(tmp_path / "bundle"), ExplainSpec(method="saliency")
    order = order_for(tmp_path, bundle, explain=(LONG, gradients))
    budget = replace(order.plan.budget, forwards=5, memory_gb=0.001)

    result, _ = run(child, replace(order, plan=replace(order.plan, budget=budget)))

    assert len(result.files) == 2
    assert "occlusion needs at least 8001 forward passes, the budget" in result.failures[0]
    assert "MiB of memory, at most 1 MiB are allowed: allow more" in result.failures[1]


def test_a_label_that_the_model_does_not_have_waits_for_a_person(child, tmp_path):
    bundle = bright_bundle(tmp_path / "bundle")
    spec = ExplainSpec(method="occlusion", of=("Sever",))

    with pytest.raises(RemoteError, match="has no such label; did you mean 'Severe'") as caught:
        run(child, order_for(tmp_path, bundle, explain=(spec,)))

    assert decide_by_name(caught.value.names) is Decision.PARK


def test_same_order_again_gives_the_same_bytes_and_keeps_the_model(child, tmp_path):
    order = order_for(tmp_path, bright_bundle(tmp_path / "bundle"))
    first, _ = run(child, order)
    content = [file.read_bytes() for file in first.files]

    second, _ = run(child, order)

    assert [file.read_bytes() for file in second.files] == content
    assert second.seconds["load"] < first.seconds["load"]


def test_error_of_a_lower_room_travels_by_name(child, tmp_path):
    bundle = bright_bundle(tmp_path / "bundle")

    with pytest.raises(RemoteError, match="series") as caught:
        run(child, order_for(tmp_path, bundle, drop=5))

    assert decide_by_name(caught.value.names) is Decision.REJECT
    assert "CANARY" not in str(caught.value)


def test_changed_bundle_waits_for_a_person(child, tmp_path):
    bundle = bright_bundle(tmp_path / "bundle")
    order = order_for(tmp_path, bundle)
    (bundle / "configs" / "inference.json").write_text("{}")

    with pytest.raises(RemoteError) as caught:
        run(child, order)

    assert decide_by_name(caught.value.names) is Decision.PARK


def test_model_reaches_no_network(child, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        call = f"socket.create_connection(('127.0.0.1', {port}), 2)"
        changes = {
            "imports": [*SEGMENTER["imports"], "$import socket"],
            "network_def": f"$[torch.nn.Conv3d(1, 2, 1), {call}][0]",
        }
        bundle = write_bundle(
            tmp_path / "bundle", SEGMENTER, bright_voxel_weights(), changes=changes
        )
        server.settimeout(0.0)

        with pytest.raises(RemoteError):
            run(child, order_for(tmp_path, bundle))

        if child.isolated is False:
            pytest.skip("the kernel permits no network namespace here")
        with pytest.raises(BlockingIOError):
            server.accept()


def test_child_ends_when_the_pipe_is_closed(tmp_path):
    ours, theirs = socket.socketpair()
    command = [
        sys.executable,
        "-m",
        "node.inference",
        f"--channel={theirs.fileno()}",
        f"--parent={os.getpid()}",
    ]
    process = subprocess.Popen(command, pass_fds=[theirs.fileno()])
    theirs.close()
    channel = Channel(ours)
    assert channel.receive(60.0)["kind"] == "started"

    channel.close()

    assert process.wait(60.0) == 0


def test_child_of_another_parent_does_not_even_start():
    command = [sys.executable, "-m", "node.inference", "--channel=0", "--parent=1"]

    status = subprocess.run(command, check=False, stdin=subprocess.DEVNULL).returncode

    assert status == 1


def test_memory_beyond_the_limit_is_an_error_and_no_death():
    script = (
        "from node.process import limit_memory\n"
        "limit_memory(400_000_000)\n"
        "try:\n"
        "    bytearray(1_000_000_000)\n"
        "except MemoryError:\n"
        "    print('refused')\n"
    )

    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)

    assert done.stdout == b"refused\n"


def test_after_a_changed_network_every_model_is_loaded_anew():
    loaded: list[str] = []
    models = ResidentModels(lambda settings: loaded.append(settings.name) or settings.name)
    one = ModelSettings(name="a")

    models.get(one)
    models.get(one)
    models.forget_all()
    models.get(one)

    assert loaded == ["a", "a"]


def test_least_recently_used_model_makes_room():
    loaded: list[str] = []

    def load(settings):
        loaded.append(settings.name)
        return settings.name

    models = ResidentModels(load, capacity=2)
    for name in ("a", "b", "a", "c", "a", "b"):
        models.get(ModelSettings(name=name))

    assert loaded == ["a", "b", "c", "b"]
