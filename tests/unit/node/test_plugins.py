"""Plug-ins: names in the configuration to objects, or a named error."""

import pytest

from ai.settings import ModelSettings
from node.errors import Decision, decide
from node.plugins import (
    ENCODERS,
    EXPLAINERS,
    MEASURES,
    MODELS,
    PluginError,
    load_encoder,
    load_explainer,
    load_model,
    names,
    provider,
)


def test_every_kind_of_plug_in_is_offered():
    assert "layer_cam" in names(EXPLAINERS)
    assert names(ENCODERS) == ("bands", "overlay", "report", "segmentation")
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


def test_the_provider_of_a_plug_in_is_named_with_its_version():
    assert provider(ENCODERS, "report").startswith("pellucid ")
