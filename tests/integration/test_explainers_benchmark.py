"""The benchmark of explainers runs, goes on where it ended, and checks what it measured."""

import pytest
import torch

from benchmarks import explainers, records, tables

ASKED = ["--small", "--networks", "UNet", "--batch", "2", "--rounds", "1", "--width", "120"]


@pytest.fixture(autouse=True)
def threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_it_measures_ours_and_theirs_and_goes_on_where_it_ended(tmp_path, capsys):
    path = tmp_path / "figures.json"

    explainers.main([*ASKED, "--methods", "grad_cam", "--json", str(path)])
    first = records.load(path)
    explainers.main([*ASKED, "--methods", "grad_cam", "lrp", "--json", str(path), "--resume"])
    both = records.load(path)

    ours = first.records["UNet", "ours", "grad_cam"]
    theirs = first.records["UNet", "captum", "LayerGradCam"]
    assert ours.cost > 0
    assert ours.peak > 0
    assert ours.batched > 0
    assert theirs.difference <= 1e-5
    assert both.records["UNet", "ours", "grad_cam"] == ours
    assert both.records["UNet", "ours", "lrp"].residual <= 1e-4
    assert "TypeError" in both.records["UNet", "captum", "LRP"].raised
    assert "acceptance" in capsys.readouterr().out


def test_figures_of_other_conditions_are_not_mixed(tmp_path):
    path = tmp_path / "figures.json"
    records.save(records.Session(conditions={"extents": "full"}), path)

    with pytest.raises(SystemExit, match="extents was full, is small"):
        explainers.main([*ASKED, "--methods", "grad_cam", "--json", str(path), "--resume"])


def test_the_worst_that_was_measured_counts():
    session = records.Session(conditions={})
    for network, cost in (("UNet", 3.0), ("DynUNet", 4.5)):
        session.add(
            records.Record(
                network=network, library="ours", method="lrp", forward_seconds=1.0, cost=cost
            )
        )

    found = {each.name: each for each in tables.figures(session)}

    assert found["LRP, F"].worst == (4.5, "lrp on DynUNet")
    assert found["DeepLIFT, F"].worst is None
