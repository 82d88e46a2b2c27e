"""What holds for every entry point of ``pellucid.measures``."""

import inspect
from importlib import metadata

import pytest

from dicom_io.codes import measure_code

MEASURES = {entry.name: entry for entry in metadata.entry_points(group="pellucid.measures")}
DRAWING = {"deletion", "insertion", "road", "stability", "max_sensitivity", "emprt", "smprt"}


@pytest.mark.parametrize("name", MEASURES)
def test_a_measure_says_which_way_is_better_and_what_it_takes(name):
    said = " ".join((inspect.getdoc(MEASURES[name].load()) or "").lower().split())

    assert "higher is" in said or "lower is" in said
    assert "forward pass" in said or " explanation" in said.partition("it takes")[2]
    assert measure_code(name).meaning


@pytest.mark.parametrize("name", MEASURES)
def test_a_measure_that_draws_has_to_be_told_from_what(name):
    parameters = inspect.signature(MEASURES[name].load()).parameters

    assert ("generator" in parameters) == (name in DRAWING)
    if name in DRAWING:
        assert parameters["generator"].default is inspect.Parameter.empty
