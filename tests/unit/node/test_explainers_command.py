"""``pellucid explainers``: every method, told to a person and to a machine."""

import json
import tomllib
from dataclasses import dataclass, field

import pytest

from dicom_io.analysis import Cost
from node.cli import main
from node.commands.explainers import described_class, detail_text, explainer_rows, route_snippet
from node.config_folder import load_config
from node.plugins import EXPLAINERS, names
from tests.build_bundles import SEGMENTER, bright_voxel_weights, write_bundle
from tests.build_config import write_config


@dataclass(frozen=True)
class Undescribed:
    name: str = field(default="foreign", init=False)
    strength: float = 2.0
    helper: object = None

    def estimate_cost(self, network, x):
        return Cost(forwards=1)


@pytest.fixture
def pellucid(capsys, tmp_path, monkeypatch):
    """Run a command and return exit status, standard output and standard error."""
    monkeypatch.delenv("PELLUCID_CONFIG", raising=False)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.chdir(tmp_path)

    def run(*words):
        with pytest.raises(SystemExit) as ended:
            main(["explainers", *(str(word) for word in words)])
        printed = capsys.readouterr()
        return ended.value.code, printed.out, printed.err

    return run


def test_every_method_says_what_it_shows_needs_and_costs(pellucid):
    status, out, err = pellucid("--json")

    found = {each["method"]: each for each in json.loads(out)}
    assert (status, err) == (0, "")
    assert sorted(found) == list(names(EXPLAINERS))
    for each in found.values():
        assert each["shows"].endswith(".")
        assert "not stated" not in (each["needs"], each["passes"])
        assert each["provider"].startswith("pellucid ")
        assert all(line["default"] for line in each["parameters"])


def test_the_table_of_all_methods_is_readable_at_100_columns(pellucid):
    status, out, _ = pellucid()

    lines = out.splitlines()
    assert status == 0
    assert max(map(len, lines)) <= 100
    assert [name for name in names(EXPLAINERS) if f"│ {name} " not in out] == []
    assert "Each place weighed by its own" in out


@pytest.mark.parametrize("name", names(EXPLAINERS))
def test_the_snippet_of_every_method_can_be_pasted_into_a_route(pellucid, tmp_path, name):
    (each,) = json.loads(pellucid(name, "--json")[1])

    routes = f'[[route]]\nname = "r"\nmodel = "phantom"\n{each["route"]}\n'
    (route,) = load_config(write_config(tmp_path, routes=routes)).routes

    (explain,) = route.steps[0].explain
    assert explain.method == name
    assert set(explain.parameters) == {line["name"] for line in each["parameters"]}


def test_one_method_is_told_in_full(pellucid):
    status, out, _ = pellucid("occlusion")

    assert status == 0
    assert "With the defaults a projection takes 64 + 64 + 32 = 160 passes" in out
    assert "needs        its output alone, of the network" in out
    assert "OCCLUSION (99PELLUCID) Occlusion" in out
    assert 'explain = [{ method = "occlusion", cells = 0, refine = [], baseline = "blur"' in out
    assert "--explain occlusion:baseline=blur" in out
    assert "What fills a cell" in out


def test_parameters_that_a_method_inherits_are_explained_as_well(pellucid):
    (each,) = json.loads(pellucid("layer_cam", "--json")[1])

    meanings = {line["name"]: line["meaning"] for line in each["parameters"]}
    assert meanings["depth"].startswith("Where to look in a network without strides")
    assert meanings["signed"].startswith("Whether evidence against the target is kept")


def test_on_a_network_each_method_says_what_it_takes_or_why_it_cannot_work(pellucid, tmp_path):
    bundle = write_bundle(tmp_path / "bundle", SEGMENTER, bright_voxel_weights())
    words = ("--bundle", bundle, "--trust", "--size", "16x16x16")

    status, out, _ = pellucid(*words, "--json")
    _, table, _ = pellucid(*words)

    found = {each["method"]: each["estimate"] for each in json.loads(out)}
    assert status == 0
    assert found["occlusion"]["applicable"] is True
    assert found["occlusion"]["forwards"] == 124
    assert found["occlusion"]["peak_bytes"] > 0
    assert found["layer_cam"]["applicable"] is False
    assert "feature map" in found["layer_cam"]["why"]
    assert "at most 124 forward" in table
    assert "not applicable: no module of the" in table


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("layercam", "there is no explainer 'layercam'; did you mean 'layer_cam'?"),
        ("--model phantom", "say by --size how large an image is, as 96x96x96"),
        ("--model phantom --size large", "--size large: say by --size how large"),
        ("--model phantom --size 96x96", "the network takes images of 3 axes, not of 2"),
        ("--model phantm --size 96x96x96", "did you mean 'phantom'?"),
        ("--bundle . --size 96x96x96", "can run code of its own"),
    ],
)
def test_what_is_asked_in_a_wrong_way_is_one_sentence_and_status_2(pellucid, words, sentence):
    status, out, err = pellucid(*words.split())

    assert (status, out) == (2, "")
    assert sentence in err


def test_a_plug_in_that_says_nothing_of_itself_is_listed_all_the_same():
    foreign = described_class("foreign", Undescribed)

    (row,) = explainer_rows([foreign])
    told = detail_text(foreign)

    assert row["what it shows, and its parameters"] == "no description\nstrength=2.0, helper=?"
    assert row["needs of the network, and costs"] == "not stated\nnot stated"
    assert "no description" in told
    assert tomllib.loads(route_snippet(foreign)) == {
        "explain": [{"method": "foreign", "strength": 2.0}]
    }
