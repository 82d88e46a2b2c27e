"""The configuration: every mistake at once, each with its place; and what follows from it."""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from dicom_io.codes import Code
from node.config import (
    BudgetSettings,
    ExplainSpec,
    GateSettings,
    Mode,
    OnFail,
    Priority,
    UserIdentity,
    config_hash,
    embedded_config,
    plan_from_json,
    plan_of,
    plan_to_json,
)
from node.config_folder import load_config
from node.problems import InvalidConfigError
from node.service import memory_limit
from node.tls import PeerTls
from tests.build_config import MODEL, NODE, ROUTES, write_config

REPOSITORY = Path(__file__).parents[3]


def problems_of(folder, environment=None):
    with pytest.raises(InvalidConfigError) as caught:
        load_config(folder, environment)
    return [str(problem) for problem in caught.value.problems]


def test_a_whole_configuration_becomes_values(tmp_path):
    folder = write_config(tmp_path)

    config = load_config(folder)

    assert config.node.data == folder / "data"
    assert config.node.database == f"sqlite:///{folder / 'data' / 'ledger.sqlite'}"
    assert config.site.institution == "General Hospital"
    assert (config.peers["pacs"].ae_title, config.peers["pacs"].port) == ("MAINPACS", 104)
    route = config.routes[0]
    assert (route.called, route.from_peers) == (("PELLUCID",), ("ct1",))
    assert route.select[0].name == "t1"
    assert route.select[0].conditions["SliceThickness"] == (0.5, 2.0)
    assert route.priority is Priority.URGENT
    assert route.complete.quiet_seconds == 5
    assert route.steps[0].model == "tissue"
    assert route.steps[0].explain == (
        ExplainSpec(method="layer_cam"),
        ExplainSpec(method="occlusion", parameters={"window": 8}, of=("White matter",)),
    )
    assert route.budget == BudgetSettings(forwards=500, memory_gb=8, minutes=20)
    assert route.gate == GateSettings(on_fail=OnFail.WITHHOLD, limits={"residual": 0.01})
    assert route.results == ("report", "bands")
    assert route.send_to == ("pacs", "@sender")
    assert route.mode is Mode.CLINICAL
    model = config.models["tissue"]
    assert model.bundle == tmp_path / "bundle"
    assert model.labels == {1: Code("68523003", "SCT", "White matter")}
    assert (model.threshold, model.temperature) == (0.4, 1.5)
    assert model.intended_use.age_years == (18, 99)
    assert "phantom" in config.models


def test_a_route_may_leave_measuring_out_and_a_model_have_limits_of_its_own(tmp_path):
    routes = ROUTES.replace('on_fail = "withhold", ', "measure = false, ")
    model = MODEL + "[model.gate]\ncomprehensiveness = 0.3\nstability = 0.9\n"

    config = load_config(write_config(tmp_path, routes=routes, model=model))

    assert config.routes[0].gate == GateSettings(limits={"residual": 0.01}, measure=False)
    assert config.models["tissue"].gate == {"comprehensiveness": 0.3, "stability": 0.9}


def test_a_folder_with_only_a_node_file_takes_nothing_and_sends_nothing(tmp_path):
    (tmp_path / "node.toml").write_text("")

    config = load_config(tmp_path)

    assert config.routes == ()
    assert config.peers == {}
    assert config.node.ae_title == "PELLUCID"


def test_what_a_task_may_take_and_what_is_kept_is_configured(tmp_path):
    node = (
        '[node]\ndata = "data"\ntask_minutes = 90\ntask_memory_gb = 1.5\n'
        "[storage]\nretention_days = 0.5\nwatermark_percent = 80\n"
    )

    config = load_config(write_config(tmp_path, node=node, routes=""))

    assert config.node.task_minutes == 90
    assert memory_limit(config.node) == 1_500_000_000
    assert (config.storage.retention_days, config.storage.watermark_percent) == (0.5, 80)


def test_explaining_is_bounded_by_default_so_that_findings_are_delivered(tmp_path):
    routes = '[[route]]\nname = "r"\nmodel = "phantom"'

    (route,) = load_config(write_config(tmp_path, routes=routes)).routes

    assert route.budget == BudgetSettings(forwards=None, memory_gb=None, minutes=30)


def test_what_is_explained_may_be_weighed_against_another_label(tmp_path):
    two_labels = MODEL.replace(
        "[model.labels]\n", '[model.labels]\n2 = { meaning = "CSF", code = "1", scheme = "X" }\n'
    )
    routes = ROUTES.replace('of = ["White matter"]', 'of = ["White matter"], against = "CSF"')

    (route,) = load_config(write_config(tmp_path, routes=routes, model=two_labels)).routes

    explain = route.steps[0].explain[1]
    assert (explain.of, explain.against) == (("White matter",), "CSF")
    assert explain.parameters == {"window": 8}


def test_labels_that_no_file_lists_are_left_to_the_loaded_model(tmp_path):
    routes = ROUTES.replace('of = ["White matter"]', 'of = ["Anything"], against = "Another"')
    unlisted = MODEL[: MODEL.index("[model.labels]")]

    (route,) = load_config(write_config(tmp_path, routes=routes, model=unlisted)).routes

    assert route.steps[0].explain[1].of == ("Anything",)


def test_several_models_of_one_route_are_a_run(tmp_path):
    routes = """
[[route]]
name = "two"
run = [{ model = "phantom" }, { model = "tissue", explain = ["grad_cam"] }]
"""

    route = load_config(write_config(tmp_path, routes=routes)).routes[0]

    assert [step.model for step in route.steps] == ["phantom", "tissue"]
    assert [spec.method for spec in route.steps[0].explain] == ["layer_cam"]
    assert [spec.method for spec in route.steps[1].explain] == ["grad_cam"]


ROUTE = '[[route]]\nname = "r"\nmodel = "phantom"\n'
TISSUE = ROUTE.replace("phantom", "tissue")
NODE_MISTAKES = [
    ("[node]\nprot = 1", "node.toml: node.prot: unknown key; did you mean 'port'?"),
    ("[nod]\nport = 1", "node.toml: nod: unknown key; did you mean 'node'?"),
    ('[node]\nae_title = "SEVENTEEN_LETTERS"', "has 17 characters; expected 1 to 16"),
    ("[node]\nae_title = 'A\\B'", "has a backslash"),
    ('[node]\nae_title = "   "', "node.toml: node.ae_title: is empty"),
    ('[node]\nae_title = "ÄTITEL"', "outside ASCII"),
    ("[node]\nport = 70000", "70000 is not accepted; expected a whole number from 1 to 65535"),
    ('[node]\nport = "x"', "'x' is not accepted; expected a whole number"),
    ("[node]\nport = true", "True is not accepted; expected a whole number"),
    ("[node]\ntask_minutes = 59", "node.task_minutes: 59 is not accepted; expected minutes, from"),
    ("[node]\ntask_memory_gb = 0", "node.task_memory_gb: 0 is not accepted; expected gigabytes"),
    ("[node]\nworkers = 0", "node.workers: 0 is not accepted"),
    ('[node]\nbind = "here"', "node.bind: 'here' does not appear to be an IPv4"),
    ('[node]\ndatabase = "mysql://x"', "the scheme 'mysql' is not supported"),
    ('[node]\ntls = { cert = "no.pem", key = "no.key" }', "there is no file 'no.pem'"),
    ("[node]\nreceivers = 0", "node.receivers: 0 is not accepted; expected a whole number from 1"),
    ("[storage]\nretention_days = 0", "storage.retention_days: 0 is not accepted; expected days"),
    (
        "[storage]\nwatermark_percent = 101",
        "watermark_percent: 101 is not accepted; expected a per",
    ),
    ('[ingest]\nstrict = "no"', "ingest.strict: 'no' is not accepted; expected true or false"),
    ('[site]\nuid_root = "1.2"', "site.uid_root: is not available"),
    ('[peers]\na = ["A", "10.0.0.1"]', 'peers.a: the short form is ["AE TITLE", "host", port]'),
    ('[peers]\na = ["A", "10.0.0.1", 0]', "peers.a.port: 0 is not accepted"),
    ('[peers]\na = ["A", "10.0.0.999", 104]', "peers.a.host: '10.0.0.999' is neither a host"),
    ('[peers.a]\nae_title = "A"', "peers.a.host: is missing; expected a host name"),
    ('[peers.a]\nae_title = "A"\nhost = "h"\nallow = ["find"]', "'find' is not available"),
    ('[peers.a]\nae_title = "A"\nhost = "h"\nallow = ["stores"]', "did you mean 'store'?"),
    ('[peers.a]\nae_title = "A"\nhost = "h"\ncommitment = true', "allow must hold 'commit'"),
    (
        '[peers.a]\nae_title = "A"\nhost = "h"\ntls = true',
        "True is not accepted; expected a table: ca",
    ),
    ('[peers.a]\nae_title = "A"\nhost = "h"\nprofile = "x"', "'x' is not accepted; expected 'gen"),
    (
        '[peers]\na = ["A", "h1", 104]\nb = ["A", "h2", 104]',
        "peers.a.ae_title: 'A' is the AE title of a, b",
    ),
    ("[node", "node.toml: is not valid TOML: Expected ']'"),
    ('[node]\ndata = "${env:NO_SUCH}"', "node.data: the environment has no variable 'NO_SUCH'"),
    ('[node]\ndata = "${file:/no/such}"', "file '/no/such' cannot be read: No such file"),
    ('[node]\ndata = "${vault:x}"', "'${vault:x}' is neither ${env:NAME} nor ${file:path}"),
]
ROUTE_MISTAKES = [
    ('[[route]]\nmodel = "phantom"', "route[0].name: is missing"),
    ('[[route]]\nname = "r"', "route[r].model: is missing; expected the name of a model"),
    (ROUTE + "run = [{ model = 'phantom' }]", "route[r].model: stands beside run"),
    (
        "[[route]]\nname = 'r'\nrun = [{ model = 'phantom' }, { model = 'phantom' }]",
        "route[r].run: runs 'phantom' several times; expected one entry",
    ),
    ('[[route]]\nname = "r"\nmodel = "phantm"', "no model 'phantm'; did you mean 'phantom'?"),
    (ROUTE + 'explain = ["layercam"]', "explain[0].method: there is no explainer 'layercam'"),
    (ROUTE + 'explain = [{ rule = "x" }]', "explain[0].method: is missing"),
    (ROUTE + 'explain = [{ method = "occlusion", x = { y = 1 } }]', "explain[0].x: {'y': 1} is"),
    (ROUTE + 'explain = [{ method = "occlusion", of = "x" }]', "explain[0].of: 'x' is not accept"),
    (ROUTE + 'explain = [{ method = "occlusion", of = [1] }]', "explain[0].of[0]: 1 is not accept"),
    (ROUTE + 'explain = [{ method = "occlusion", against = "" }]', "against: '' is not accepted"),
    (
        TISSUE + 'explain = [{ method = "occlusion", of = ["White mater"] }]',
        "explain[0].of[0]: model 'tissue' has no label 'White mater'; did you mean 'White matter'?",
    ),
    (
        TISSUE + 'explain = ["layer_cam", { method = "occlusion", against = "Bone" }]',
        "route[r].explain[1].against: model 'tissue' has no label 'Bone'",
    ),
    (
        "[[route]]\nname = 'r'\nrun = [{ model = 'phantom' }, { model = 'tissue', "
        "explain = [{ method = 'occlusion', of = ['Bone'] }] }]",
        "route[r].run[1].explain[0].of[0]: model 'tissue' has no label 'Bone'",
    ),
    (
        ROUTE + 'explain = [{ method = "occlusion", of = ["A", "B"], against = "B" }]',
        "explain[0].against: 'B' is explained, too; expected another label",
    ),
    (ROUTE + "budget = { forwards = 0 }", "budget.forwards: 0 is not accepted; expected a whole"),
    (ROUTE + "budget = { memory_gb = 0 }", "budget.memory_gb: 0 is not accepted; expected gigab"),
    (ROUTE + "budget = { minutes = 60 }", "minutes: 60 is not accepted; expected minutes, above"),
    (ROUTE + "budget = { passes = 9 }", "budget.passes: unknown key"),
    (ROUTE + 'results = ["reports"]', "no result 'reports'; did you mean 'report'?"),
    (ROUTE + 'send_to = ["pac"]', "send_to[0]: there is no peer 'pac'; did you mean 'pacs'?"),
    (ROUTE + 'send_to = ["@sendr"]', "did you mean '@sender'?"),
    (ROUTE + 'from = ["ct2"]', "from[0]: there is no peer 'ct2'; did you mean 'ct1'?"),
    (ROUTE + 'called = ["SEVENTEEN_LETTERS"]', "called[0]: 'SEVENTEEN_LETTERS' has 17 characters"),
    (ROUTE + "when = \"tags.Modalty == 'MR'\"", "Modalty is not a keyword"),
    (ROUTE + 'when = "tags.Modality =="', "when: not an expression"),
    (ROUTE + "when = \"__import__('os')\"", "when: unknown function '__import__'"),
    (ROUTE + 'when = "tags.SliceThickness < 2"', "compares text with number"),
    (ROUTE + 'select = [{ name = "a", Modalty = "MR" }]', "did you mean 'Modality'?"),
    (ROUTE + 'select = [{ name = "a", Modality = "(" }]', "'(' is no regular expression"),
    (ROUTE + 'select = [{ name = "a", SliceThickness = [2, 1] }]', "the range [2, 1] is empty"),
    (ROUTE + 'select = [{ name = "a", SliceThickness = [1, "2"] }]', "neither [lowest, highest]"),
    (ROUTE + 'select = [{ Modality = "MR" }]', "select[0]: name is missing"),
    (ROUTE + 'select = [{ name = "a" }, { name = "a" }]', "'a' is the name of several entries"),
    (ROUTE + "select = []", "route[r].select: [] is not accepted"),
    (ROUTE + 'complete = { wait_for = "t1" }', "complete.wait_for: is not available"),
    (ROUTE + "complete = { quiet_seconds = -1 }", "quiet_seconds: -1 is not accepted"),
    (ROUTE + 'priority = "off-peak"', "'off-peak' is not available in this version"),
    (ROUTE + 'gate = { on_fail = "drop" }', "on_fail: 'drop' is not accepted; expected 'label'"),
    (ROUTE + "gate = { limits = { residal = 1 } }", "did you mean 'residual'?"),
    (ROUTE + "gate = { limits = { stabilities = 1 } }", "did you mean 'stability'?"),
    (
        ROUTE + "gate = { limits = { plausibility = 80 } }",
        "80 is not accepted; expected a fraction",
    ),
    (ROUTE + "gate = { measured = false }", "gate.measured: unknown key; did you mean 'measure'?"),
    (ROUTE + 'mode = "live"', "mode: 'live' is not accepted; expected 'shadow'"),
    (ROUTE + 'enabled = "yes"', "enabled: 'yes' is not accepted; expected true or false"),
    (ROUTE + ROUTE, "route[r].name: 2 routes have this name"),
]
RELIABILITY = "[model.reliability]\nfile = '../bundle/t.npz'\nsha256 = '{}'\n"

MODEL_MISTAKES = [
    ('[model]\nname = "m"', "model.bundle: is missing; expected the folder of a MONAI bundle"),
    ('[model]\nname = "m"\nbundle = "nowhere"', "model.bundle: there is no folder"),
    ('[model]\nname = "m"\nkind = "monai"', "no kind of model 'monai'; did you mean"),
    ('[model]\nname = "m m"\nkind = "phantom"', "model.name: 'm m' holds something else than"),
    ('[model]\nname = "m"\nkind = "phantom"\nsha256 = { "a" = "xy" }', "'xy' is no sha256"),
    (
        '[model]\nname = "m"\nkind = "phantom"\nlabels = { one = { meaning = "a" } }',
        "model.labels.one: 'one' is not accepted; expected channel =",
    ),
    (
        '[model]\nname = "m"\nkind = "phantom"\noperating_point = { threshold = 2 }',
        "model.operating_point.threshold: 2 is not accepted; expected a probability, 0 to 1",
    ),
    (
        '[model]\nname = "m"\nkind = "phantom"\nintended_use = { age_years = [9, 1] }',
        "model.intended_use.age_years: [9.0, 1.0] is empty",
    ),
    (
        '[model]\nname = "m"\nkind = "phantom"\ngate = { edge = 0.5 }',
        "model.gate.edge: unknown key; did you mean 'edges'?",
    ),
    ('name = "m"', "models/tissue.toml: model: is missing; expected a table [model]"),
    (
        f'[model]\nname = "m"\nkind = "phantom"\n{RELIABILITY.format("ab" * 32)}',
        "model.reliability.file: there is no file",
    ),
    (
        '[model]\nname = "m"\nkind = "phantom"\n[model.reliability]\nfile = "node.toml"',
        "model.reliability.sha256: is missing; expected 64 hexadecimal digits",
    ),
]


@pytest.mark.parametrize(("node", "expected"), NODE_MISTAKES)
def test_a_mistake_in_node_toml_is_named_with_its_place(tmp_path, node, expected):
    folder = write_config(tmp_path, node=node, routes="")

    problems = problems_of(folder)

    assert any(expected in problem for problem in problems), problems


@pytest.mark.parametrize(("routes", "expected"), ROUTE_MISTAKES)
def test_a_mistake_in_routes_toml_is_named_with_its_place(tmp_path, routes, expected):
    folder = write_config(tmp_path, routes=routes)

    problems = problems_of(folder)

    assert any(expected in problem for problem in problems), problems
    assert all(problem.startswith("routes.toml: ") for problem in problems)


@pytest.mark.parametrize(("model", "expected"), MODEL_MISTAKES)
def test_a_mistake_in_a_model_file_is_named_with_its_place(tmp_path, model, expected):
    folder = write_config(tmp_path, routes="", model=model)

    problems = problems_of(folder)

    assert any(expected in problem for problem in problems), problems
    assert all(problem.startswith("models/tissue.toml: ") for problem in problems)


def test_every_mistake_in_every_file_is_told_at_once(tmp_path):
    node = '[node]\nprot = 1\nport = 0\n[peers]\npacs = ["SEVENTEEN_LETTERS", "h", 1]\n'
    routes = ROUTE + 'send_to = ["pac"]\nexplain = ["lrpp"]\nwhen = "tags"\n'

    problems = problems_of(write_config(tmp_path, node=node, routes=routes, model="= broken"))

    assert len(problems) == 7
    assert {problem.split(":")[0] for problem in problems} == {
        "node.toml",
        "routes.toml",
        "models/tissue.toml",
    }


def test_broken_syntax_in_one_file_neither_hides_nor_invents_mistakes_in_others(tmp_path):
    folder = write_config(tmp_path, node="[node", model="= broken")
    (folder / "routes.toml").write_text(ROUTES.replace("urgent", "urgnt"))

    problems = problems_of(folder)

    assert [problem.split(": ")[0] for problem in problems] == [
        "node.toml",
        "routes.toml",
        "models/tissue.toml",
    ]
    assert "route[head].priority: 'urgnt'" in problems[1]


def test_two_models_may_not_share_a_name(tmp_path):
    folder = write_config(tmp_path)
    (folder / "models" / "another.toml").write_text('[model]\nname = "tissue"\nkind = "phantom"')

    problems = problems_of(folder)

    assert problems == [
        "models/tissue.toml: model.name: 'tissue' is the name of the model in "
        "models/another.toml too; expected another"
    ]


def test_a_missing_folder_and_an_empty_one_are_mistakes(tmp_path):
    assert "there is no such folder" in problems_of(tmp_path / "none")[0]
    assert "holds no node.toml and no routes.toml" in problems_of(tmp_path)[0]


def test_references_are_filled_in_from_the_environment_and_from_files(tmp_path):
    (tmp_path / "secret").write_text("hidden\n")
    node = (
        '[node]\nport = "${env:PORT}"\n'
        f'database = "postgresql+psycopg://u:${{file:{tmp_path}/secret}}@h/d"'
    )
    folder = write_config(tmp_path, node=node, routes="")

    config = load_config(folder, {"PORT": "4711"})

    assert config.node.port == 4711
    assert config.node.database == "postgresql+psycopg://u:hidden@h/d"


def test_a_secret_that_is_not_accepted_is_not_repeated(tmp_path):
    folder = write_config(tmp_path, node='[node]\ndatabase = "${env:DB}"', routes="")

    problems = problems_of(folder, {"DB": "mysql://user:hidden@host"})

    assert "the value of ${env:DB} is not accepted" in problems[0]
    assert "hidden" not in problems[0]


def test_a_plan_travels_as_json(tmp_path):
    config = load_config(write_config(tmp_path))
    plan = plan_of(config, config.routes[0])

    returned = plan_from_json(plan_to_json(plan))

    assert "\n" not in plan_to_json(plan)
    assert returned.steps == plan.steps
    assert returned.gate == plan.gate
    assert returned.results == plan.results
    assert plan_to_json(returned) == plan_to_json(plan)


def hash_of(folder):
    config = load_config(folder)
    return config_hash(config, config.routes[0])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("[node]", "# a comment\n[node]"),
        ('["MAINPACS", "10.1.2.3", 104]', '["OTHER", "10.9.9.9", 4242]'),
        ("port = 11112", "port = 11113"),
        ("quiet_seconds = 5", "quiet_seconds = 60"),
        ('called = ["PELLUCID"]', 'called = ["OTHER"]'),
        ('from = ["ct1"]', "from = []"),
        ("when = \"tags.Modality == 'MR'\"", 'when = ""'),
        ('send_to = ["pacs", "@sender"]', 'send_to = ["pacs"]'),
        ('priority = "urgent"', 'priority = "stat"'),
    ],
)
def test_what_cannot_change_a_result_does_not_change_the_hash(tmp_path, old, new):
    assert old in NODE + ROUTES
    before = write_config(tmp_path / "a")
    after = write_config(
        tmp_path / "b", node=NODE.replace(old, new), routes=ROUTES.replace(old, new)
    )

    assert hash_of(before) == hash_of(after)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("ab" * 32, "cd" * 32),
        ("threshold = 0.4", "threshold = 0.5"),
        ("temperature = 1.5", "temperature = 1.0"),
        ("White matter", "Gray matter"),
        ("age_years = [18, 99]", "age_years = [1, 99]"),
        ('explain = ["layer_cam", ', 'explain = ["grad_cam", '),
        ("window = 8", "window = 9"),
        (', of = ["White matter"]', ""),
        ('of = ["White matter"]', 'against = "White matter"'),
        ("forwards = 500", "forwards = 501"),
        ("memory_gb = 8", "memory_gb = 9"),
        ("minutes = 20", "minutes = 21"),
        ('on_fail = "withhold"', 'on_fail = "label"'),
        ("residual = 0.01", "residual = 0.02"),
        ('results = ["report", "bands"]', 'results = ["report"]'),
        ("SliceThickness = [0.5, 2.0]", "SliceThickness = [0.5, 3.0]"),
        ('mode = "clinical"', 'mode = "research"'),
        ("ai@hospital.example", "other@hospital.example"),
        ("General Hospital", "Other Hospital"),
        ('model = "tissue"', 'model = "phantom"'),
    ],
)
def test_what_can_change_a_result_changes_the_hash(tmp_path, old, new):
    assert old in NODE + ROUTES + MODEL
    before = write_config(tmp_path / "a")
    after = write_config(
        tmp_path / "b",
        node=NODE.replace(old, new),
        routes=ROUTES.replace(old, new),
        model=MODEL.replace(old, new),
    )

    assert hash_of(before) != hash_of(after)


def test_where_a_bundle_lies_does_not_change_the_hash(tmp_path):
    config = load_config(write_config(tmp_path))
    moved = replace(config.models["tissue"], bundle=Path("/elsewhere"))

    other = replace(config, models={**config.models, "tissue": moved})

    assert config_hash(config, config.routes[0]) == config_hash(other, config.routes[0])


def with_reliability(folder, *, sha256="cd" * 32):
    config = write_config(folder, model=MODEL + RELIABILITY.format(sha256))
    (folder / "bundle" / "t.npz").touch()
    return config


def test_what_was_fitted_to_a_model_is_a_file_with_its_hash(tmp_path):
    config = load_config(with_reliability(tmp_path))

    fitted = config.models["tissue"].reliability
    assert fitted.file == tmp_path / "bundle" / "t.npz"
    assert fitted.sha256 == "cd" * 32
    plan = plan_of(config, config.routes[0])
    assert plan_from_json(plan_to_json(plan)).steps == plan.steps


def test_what_was_fitted_to_a_model_changes_the_hash_and_its_place_does_not(tmp_path):
    without = hash_of(write_config(tmp_path / "a"))
    fitted = hash_of(with_reliability(tmp_path / "b"))

    assert fitted == hash_of(with_reliability(tmp_path / "c"))
    assert len({without, fitted, hash_of(with_reliability(tmp_path / "d", sha256="ef" * 32))}) == 3


def test_the_embedded_configuration_needs_no_file(tmp_path):
    config = embedded_config(tmp_path, port=0, bind="127.0.0.1")

    assert config.node.database == f"sqlite:///{tmp_path / 'ledger.sqlite'}"
    assert set(config.models) == {"phantom"}
    assert config.routes == ()


def test_reading_a_configuration_never_imports_torch(tmp_path):
    folder = write_config(tmp_path)
    code = (
        "import sys; from pathlib import Path\n"
        "from node.config import config_hash\n"
        "from node.config_folder import load_config\n"
        "import node.routing, node.plugins\n"
        "config = load_config(Path(sys.argv[1]))\n"
        "config_hash(config, config.routes[0])\n"
        "assert not {'torch', 'monai', 'highdicom', 'pynetdicom'} & set(sys.modules)\n"
    )

    done = subprocess.run([sys.executable, "-c", code, folder], env=os.environ, check=False)

    assert done.returncode == 0


def uncommented(text):
    """Return a file with every setting switched on that it offers as ``#key``."""
    return re.sub(r"(?m)^#(?=[^\s#])", "", text)


def test_the_shipped_examples_work_as_they_are():
    config = load_config(REPOSITORY / "config")

    assert [route.name for route in config.routes] == ["phantom"]
    assert config.node.data == REPOSITORY / "data"
    assert set(config.models) == {"phantom"}


def test_every_setting_that_the_examples_offer_can_be_switched_on(tmp_path):
    bundle = tmp_path / "bundle"
    shutil.copytree(REPOSITORY / "config", tmp_path / "config")
    bundle.mkdir()
    for name in ("node.toml", "routes.toml"):
        file = tmp_path / "config" / name
        file.write_text(uncommented(file.read_text()))
    example = (tmp_path / "config" / "examples" / "brain-tissue-t1.toml").read_text()
    placed = example.replace("/models/brain_tissue_t1", str(bundle))
    (tmp_path / "config" / "models" / "brain-tissue-t1.toml").write_text(placed)

    secrets = {
        "PELLUCID_DATABASE_PASSWORD": "x",
        "PELLUCID_STOW_TOKEN": "y",
        "PELLUCID_PACS_PASSCODE": "z",
    }

    config = load_config(tmp_path / "config", secrets)

    assert [route.name for route in config.routes] == ["phantom", "head-t1"]
    assert config.peers["cloud"].token == "y"
    assert config.peers["pacs"].commitment
    assert config.peers["pacs"].tls == PeerTls(host="pacs.hospital.example")
    assert config.peers["pacs"].identity == UserIdentity(user="pellucid", passcode="z")
    assert config.node.database == "postgresql+psycopg://pellucid:x@db/pellucid"
    assert config.node.bind == "127.0.0.1"


def test_the_configuration_of_the_containers_is_sound():
    folder = REPOSITORY / "docker" / "config"

    config = load_config(folder, {"PELLUCID_DATABASE_PASSWORD": "x"})

    assert config.routes[0].send_to == ("pacs",)
