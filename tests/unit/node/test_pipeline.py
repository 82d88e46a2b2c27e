"""The main path: one study, one network that finds what is bright, every object that results."""

import re
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from pydicom.uid import SegmentationStorage

from ai.analyze import AnalyzeSettings
from dicom_io.header import read_header
from dicom_io.origin import Origin
from dicom_io.study import group_studies
from node.config import ExplainSpec, GateSettings, Step, plan_of
from node.errors import Decision, decide
from node.pipeline import load_plan, release, run
from node.plugins import load_model
from tests.fakes import ball_config, ball_files, bright_bundle


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pipeline")
    config = ball_config(folder / "data", bright_bundle(folder / "bundle"), {})
    (study,) = group_studies(read_header(path) for path in ball_files(folder / "study"))
    return config, study


def origin_of(config, study, **changes) -> Origin:
    origin = Origin(
        study_instance_uid=study.study_instance_uid,
        input_sop_instance_uids=tuple(one.sop_instance_uid for one in study.instances),
        route="bright",
        config_hash="ab",
        created=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        site=config.site,
        software_version="0.1",
    )
    return replace(origin, **changes)


def run_plan(config, study, **options):
    plan = load_plan(plan_of(config, config.routes[0]), load_model, AnalyzeSettings())
    made = run(study, options.pop("origin", origin_of(config, study)), plan, **options)
    return tuple(each.dataset for each in made)


def test_study_becomes_the_objects_that_the_route_asks_for(place):
    config, study = place

    objects = run_plan(config, study)

    kinds = [one.SOPClassUID for one in objects]
    assert len(kinds) == 2
    assert SegmentationStorage in kinds
    assert {one.StudyInstanceUID for one in objects} == {study.study_instance_uid}
    assert {one.PatientID for one in objects} == {"CANARY-4711"}


def test_second_run_gives_the_same_objects(place):
    config, study = place

    first, second = run_plan(config, study), run_plan(config, study)

    assert [str(one) for one in first] == [str(one) for one in second]


def test_other_configuration_gives_other_identifiers(place):
    config, study = place

    first = run_plan(config, study)
    second = run_plan(config, study, origin=origin_of(config, study, config_hash="cd"))

    assert not {one.SOPInstanceUID for one in first} & {one.SOPInstanceUID for one in second}


def test_stages_are_entered_in_order(place):
    config, study = place
    entered: list[str] = []

    @contextmanager
    def stage(name: str):
        entered.append(name)
        yield

    run_plan(config, study, stage=stage)

    assert entered == ["read", "analyze", "gate", "encode"]


def gated(config, *, model=None, explain=("input_x_gradient",), **gate):
    """Return the configuration with another gate of its route, and limits of its model."""
    step = Step(model="bright", explain=tuple(ExplainSpec(method=each) for each in explain))
    route = replace(config.routes[0], gate=GateSettings(**gate), steps=(step,))
    route = replace(route, results=("report", "bands", "overlay"))
    bright = replace(config.models["bright"], gate=model or {})
    return replace(config, routes=(route,), models={**config.models, "bright": bright})


def test_a_limit_of_the_route_goes_before_that_of_the_model_and_that_before_our_own(place):
    config, study = place
    wanted = gated(config, model={"comprehensiveness": -0.5, "edges": 0.9}, limits={"edges": 0.95})

    plan = load_plan(plan_of(wanted, wanted.routes[0]), load_model, AnalyzeSettings())
    _, (analysis,) = release(study, plan)

    limits = {each.name: each.limit for each in analysis.explanations[0].measures}
    assert (limits["comprehensiveness"], limits["edges"]) == (-0.5, 0.95)
    assert limits["intensity"] == 0.8


def passes_of(config, study):
    """Return the objects, and the size of each output of the network."""
    seen = []

    def load_watched(settings):
        model = load_model(settings)
        model.network.register_forward_hook(lambda *call: seen.append(call[2].numel()))
        return model

    plan = load_plan(plan_of(config, config.routes[0]), load_watched, AnalyzeSettings())
    made = run(study, origin_of(config, study), plan)
    return tuple(each.dataset for each in made), seen


def test_measuring_that_is_switched_off_costs_no_pass_and_every_object_says_so(place):
    config, study = place

    _, predicted = passes_of(gated(config, explain=()), study)
    objects, passes = passes_of(gated(config, measure=False), study)
    _, measured = passes_of(gated(config), study)

    (whole,) = predicted
    # What is smaller tells the sizes of feature maps; the explanation itself is one pass.
    assert [each for each in passes if each >= whole] == [whole, whole]
    assert sum(each for each in measured if each >= whole) == (2 + 4 + 1) * whole
    (report,) = (each for each in objects if each.Modality == "SR")
    assert {"GATE-NOT-RUN", "GRADE-NONE"} <= set(re.findall(r"G[A-Z]+-[A-Z-]+", str(report)))
    pictures = [each for each in objects if each is not report]
    assert {each.Modality for each in pictures} == {"SEG", "OT"}
    for each in pictures:
        assert each.SeriesDescription.endswith("not measured")


def test_series_with_a_gap_is_rejected(place):
    config, study = place
    instances = sorted(study.instances, key=lambda one: one.path.stem)
    (broken,) = group_studies(one for one in instances if one is not instances[len(instances) // 2])

    with pytest.raises(ValueError, match="series") as caught:
        run_plan(config, broken)

    assert decide(caught.value) is Decision.REJECT
