"""``--explain``: one word of the command line becomes one entry of a route."""

import json
from dataclasses import fields

import pytest

from node.commands.analyze import explain_specs
from node.commands.output import MisuseError
from node.config import ExplainSpec
from node.plugins import EXPLAINERS, default_of, explainer_class, load_explainer, names


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


@pytest.mark.parametrize("name", names(EXPLAINERS))
def test_every_explainer_is_made_from_the_command_line_with_all_its_parameters(name):
    kind = explainer_class(name)
    values = {each.name: default_of(each) for each in fields(kind) if each.init}
    pairs = (f"{key}={json.dumps(value)}" for key, value in values.items())

    (spec,) = explain_specs([f"{name}:{','.join(pairs)}"])

    assert load_explainer(spec.method, spec.parameters) == kind()


def test_nothing_asked_is_the_default_and_none_is_none():
    assert explain_specs([]) == (ExplainSpec(method="layer_cam"),)
    assert explain_specs(["none"]) == ()


@pytest.mark.parametrize("text", ["layer_cam:0.75", "layer_cam:depth", "layer_cam:=1", "layer_cm"])
def test_a_word_that_is_neither_is_refused(text):
    with pytest.raises(MisuseError):
        explain_specs([text])
