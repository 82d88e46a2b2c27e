"""``--explain``: one word of the command line becomes one entry of a route."""

import pytest

from node.commands.analyze import explain_specs
from node.commands.output import MisuseError
from node.config import ExplainSpec


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("layer_cam", ExplainSpec(method="layer_cam")),
        ("layer_cam:", ExplainSpec(method="layer_cam")),
        ("layer_cam:depth=0.75", ExplainSpec(method="layer_cam", parameters={"depth": 0.75})),
        (
            "occlusion: cells = 4 , baseline = zero",
            ExplainSpec(method="occlusion", parameters={"cells": 4, "baseline": "zero"}),
        ),
        (
            "occlusion:refine=[16,8],cells=4",
            ExplainSpec(method="occlusion", parameters={"refine": (16, 8), "cells": 4}),
        ),
        (
            "layer_cam:layers=[encoder.layer3, 'layer 4'],signed=true",
            ExplainSpec(
                method="layer_cam",
                parameters={"layers": ("encoder.layer3", "layer 4"), "signed": True},
            ),
        ),
        (
            'layer_cam:layers=["a,b", "c"]',
            ExplainSpec(method="layer_cam", parameters={"layers": ("a,b", "c")}),
        ),
        ("layer_cam:of=Nodule", ExplainSpec(method="layer_cam", of=("Nodule",))),
        (
            'layer_cam:of=[Nodule, Mass],against="Effusion, left"',
            ExplainSpec(method="layer_cam", of=("Nodule", "Mass"), against="Effusion, left"),
        ),
        ("layer_cam:of=3,against=4", ExplainSpec(method="layer_cam", of=("3",), against="4")),
    ],
)
def test_a_word_is_a_method_its_parameters_and_what_it_explains(text, spec):
    assert explain_specs([text]) == (spec,)


def test_nothing_asked_is_the_default_and_none_is_none():
    assert explain_specs([]) == (ExplainSpec(method="layer_cam"),)
    assert explain_specs(["none"]) == ()


@pytest.mark.parametrize("text", ["layer_cam:0.75", "layer_cam:depth", "layer_cam:=1", "layer_cm"])
def test_a_word_that_is_neither_is_refused(text):
    with pytest.raises(MisuseError):
        explain_specs([text])
