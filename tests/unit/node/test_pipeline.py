"""The main path: one study, one network that finds what is bright, every object that results."""

from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from pydicom.uid import SegmentationStorage

from ai.analyze import AnalyzeSettings
from dicom_io.header import read_header
from dicom_io.origin import Origin
from dicom_io.study import group_studies
from node.config import plan_of
from node.errors import Decision, decide
from node.pipeline import load_plan, run
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
    return run(study, options.pop("origin", origin_of(config, study)), plan, **options)


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


def test_series_with_a_gap_is_rejected(place):
    config, study = place
    instances = sorted(study.instances, key=lambda one: one.path.stem)
    (broken,) = group_studies(one for one in instances if one is not instances[len(instances) // 2])

    with pytest.raises(ValueError, match="series") as caught:
        run_plan(config, broken)

    assert decide(caught.value) is Decision.REJECT
