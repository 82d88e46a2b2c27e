"""Plug-ins: names in the configuration to objects, or a named error."""

import json
import tomllib
from dataclasses import fields

import pytest

from ai.settings import ModelSettings
from dicom_io.encode.kinds import KINDS
from node.errors import Decision, decide
from node.plugins import (
    ENCODERS,
    EXPLAINERS,
    MEASURES,
    MODELS,
    PluginError,
    default_of,
    explainer_class,
    load_encoder,
    load_explainer,
    load_model,
    names,
    provider,
)


def test_every_kind_of_plug_in_is_offered():
    assert "layer_cam" in names(EXPLAINERS)
    assert set(names(ENCODERS)) == set(KINDS)
    assert set(names(MODELS)) >= {"monai_bundle", "phantom"}
    assert "integrity" in names(MEASURES)


@pytest.mark.parametrize(
    ("load", "message"),
    [
        (lambda: load_explainer("layercam", {}), "did you mean 'layer_cam'"),
        (lambda: load_encoder("reports"), "did you mean 'report'"),
        (lambda: load_model(ModelSettings(name="m", kind="phantm")), "did you mean 'phantom'"),
        (lambda: provider(EXPLAINERS, "zzz"), "there is no explainer 'zzz'"),
    ],
)
def test_an_unknown_name_is_told_with_the_nearest(load, message):
    with pytest.raises(PluginError, match=message):
        load()


def test_an_unknown_plug_in_parks_its_task():
    assert decide(PluginError("there is no explainer")) is Decision.PARK


def test_an_explainer_takes_its_parameters():
    explainer = load_explainer("layer_cam", {"signed": True})

    assert explainer.name == "layer_cam"
    assert explainer.signed is True


@pytest.mark.parametrize("parameter", ["signd", "name", "layer_rule"])
def test_a_parameter_that_the_method_does_not_have_is_refused(parameter):
    with pytest.raises(PluginError, match=f"no parameter '{parameter}'"):
        load_explainer("layer_cam", {parameter: True})


@pytest.mark.parametrize("name", names(EXPLAINERS))
def test_every_explainer_is_made_from_a_route_with_all_its_parameters(name):
    kind = explainer_class(name)
    defaults = {each.name: default_of(each) for each in fields(kind) if each.init}
    toml = "\n".join(f"{key} = {json.dumps(value)}" for key, value in defaults.items())

    explainer = load_explainer(name, tomllib.loads(toml))

    assert explainer == kind()
    assert not {"method", "of", "against"} & set(defaults)


def test_one_value_stands_for_a_list_of_one():
    explainer = load_explainer("layer_cam", {"layers": "encoder.layer3"})

    assert explainer.layers == ("encoder.layer3",)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"depth": "deep"}, 'depth = "deep" is not accepted; expected a number, as 0.5'),
        ({"depth": True}, "depth = true is not accepted; expected a number"),
        ({"signed": 1}, "signed = 1 is not accepted; expected true or false, as false"),
        ({"signed": "yes"}, 'signed = "yes" is not accepted; expected true or false'),
    ],
)
def test_a_parameter_of_another_kind_is_refused_before_anything_runs(parameters, message):
    with pytest.raises(PluginError, match=message):
        load_explainer("layer_cam", parameters)


def test_a_whole_number_is_a_number_but_not_the_other_way_round():
    assert load_explainer("layer_cam", {"depth": 1}).depth == 1
    with pytest.raises(PluginError, match="expected a whole number, as 0"):
        load_explainer("occlusion", {"cells": 2.5})


def test_the_provider_of_a_plug_in_is_named_with_its_version():
    assert provider(ENCODERS, "report").startswith("pellucid ")
