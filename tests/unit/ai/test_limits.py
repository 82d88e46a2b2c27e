"""What an explanation may take: one that may not is told with its reason, and findings stay."""

import numpy as np
import pytest
import torch
from pydicom import Dataset

from ai.analyze import AnalyzeSettings, ExplainerRequest, analyze
from ai.errors import ExplanationCancelledError
from ai.explainers.integrated_gradients import IntegratedGradients
from ai.explainers.occlusion import Occlusion
from ai.limits import Limits
from ai.model import Budget
from ai.models.monai_bundle import load
from dicom_io.read import Input
from tests.build_bundles import (
    CLASSIFIER,
    ORIENTATIONS,
    make_affine,
    make_volume,
    settings_for,
    write_bundle,
)

LABELS = {"0": "Effusion", "1": "Nodule", "2": "Edema", "3": "Mass"}
GRADIENTS = ExplainerRequest(name="integrated_gradients", explainer=IntegratedGradients())
OCCLUSION = ExplainerRequest(name="occlusion", explainer=Occlusion(cells=2, refine=(2,)))


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    """A model that finds all four of its labels in what is bright."""
    weights = {"0.weight": torch.full((4, 1, 1, 1, 1), 4.0), "0.bias": torch.zeros(4)}
    network = CLASSIFIER["network_def"].replace("Conv3d(1, 2, 1)", "Conv3d(1, 4, 1)")
    changes = {"network_def": network}
    folder = tmp_path_factory.mktemp("bundle") / "c"
    write_bundle(folder, CLASSIFIER, weights, channels=LABELS, changes=changes)
    return load(settings_for(folder, threshold=0.1))


def analyzed(model, *requests, **settings):
    voxels = np.ones((4, 6, 6), np.float32)
    volume = make_volume(voxels, affine=make_affine(ORIENTATIONS["axial"]))
    source = Input(name="t1", volume=volume, headers=tuple(Dataset() for _ in volume.frames))
    return analyze([source], model, requests, AnalyzeSettings(max_explained=1, **settings))


def after(calls):
    """A question that is answered by no so many times, and then by yes."""
    asked = iter(range(calls))
    return lambda: next(asked, None) is None


def test_an_explanation_that_would_take_too_much_memory_is_not_begun(classifier):
    spent = []
    budget = Budget(report=lambda done, total: spent.append(done))

    analysis = analyzed(classifier, GRADIENTS, limits=Limits(memory_bytes=1000), budget=budget)

    (failure,) = analysis.failures
    assert analysis.explanations == ()
    assert len([finding for finding in analysis.findings if finding.present]) == 4
    assert failure.reason.startswith("it would take about 42 MiB of memory, at most 0 MiB are")
    assert failure.reason.endswith(
        "allow more, give it less memory_bytes, or choose a method that takes less"
    )
    assert spent == [1000, 2000]


def test_a_method_that_refuses_its_passes_says_how_many_it_needs_and_what_to_change(classifier):
    analysis = analyzed(classifier, OCCLUSION, budget=Budget(forwards=5))

    (failure,) = analysis.failures
    assert failure.reason == (
        "occlusion needs at least 9 forward passes, the budget has 5: "
        "allow more, or choose a method that takes fewer"
    )


def test_parameters_are_told_as_a_route_writes_them(classifier):
    (explanation,) = analyzed(classifier, OCCLUSION).explanations

    told = {name: explanation.parameters[name] for name in ("cells", "refine", "baseline")}
    assert told == {"cells": "2", "refine": "[2]", "baseline": "blur"}


def test_an_explanation_within_the_limit_is_made(classifier):
    analysis = analyzed(classifier, GRADIENTS, limits=Limits(memory_bytes=2**33))

    assert [each.method for each in analysis.explanations] == ["integrated_gradients"]


def test_a_method_that_only_runs_the_network_takes_what_the_prediction_took(classifier):
    analysis = analyzed(classifier, OCCLUSION, limits=Limits(memory_bytes=1000))

    assert [each.method for each in analysis.explanations] == ["occlusion"]


def test_when_the_time_is_over_nothing_is_begun_and_findings_stay(classifier):
    analysis = analyzed(classifier, OCCLUSION, limits=Limits(expired=lambda: True))

    assert [failure.reason for failure in analysis.failures] == [
        "the time for explaining was over before it was begun"
    ]
    assert len(analysis.findings) == 4


def test_what_the_time_leaves_is_shown_and_says_that_it_is_partial(classifier):
    # Before it begins, before the coarse cells, before the finer ones.
    analysis = analyzed(classifier, OCCLUSION, limits=Limits(expired=after(2)))

    (explanation,) = analysis.explanations
    assert explanation.warnings == (
        "stopped at level 1: 0 of 16 cells measured, the others keep the coarser level's value",
    )


def test_time_that_is_over_before_anything_is_there_is_told(classifier):
    analysis = analyzed(classifier, GRADIENTS, OCCLUSION, limits=Limits(expired=after(1)))

    assert [failure.reason for failure in analysis.failures] == [
        "the time for explaining was over before there was anything to show",
        "the time for explaining was over before it was begun",
    ]


def test_a_caller_who_cancels_gets_no_analysis_even_if_the_time_is_over_too(classifier):
    budget = Budget(cancelled=after(1))

    with pytest.raises(ExplanationCancelledError):
        analyzed(classifier, OCCLUSION, budget=budget, limits=Limits(expired=after(1)))


def test_a_caller_who_cancels_is_heard_between_two_explanations(classifier):
    # Asked before each level of occlusion: what is partial then is not the last word.
    budget = Budget(cancelled=after(1))

    with pytest.raises(ExplanationCancelledError, match="the caller cancelled"):
        analyzed(classifier, OCCLUSION, OCCLUSION, budget=budget)


def test_labels_that_are_named_are_all_explained(classifier):
    named = ExplainerRequest(
        name="occlusion", explainer=OCCLUSION.explainer, targets=("Mass", "Edema", "Nodule")
    )

    analysis = analyzed(classifier, OCCLUSION, named)

    assert [each.target for each in analysis.explanations] == [
        "Effusion", "Nodule", "Edema", "Mass",
    ]  # fmt: skip
