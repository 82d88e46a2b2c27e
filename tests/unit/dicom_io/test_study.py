import random

from dicom_io.study import group_studies
from tests.build import cr_dataset, ct_series, stored


def test_instances_are_grouped_as_dicom_groups_them(tmp_path):
    ct = ct_series(tmp_path / "ct")
    cr = stored(tmp_path / "cr", [cr_dataset()])

    studies = group_studies([*ct.instances, *cr.instances])

    assert len(studies) == 2
    assert sorted(len(study.instances) for study in studies) == [1, 5]


def test_grouping_does_not_depend_on_order(tmp_path):
    instances = list(ct_series(tmp_path).instances)
    shuffled = random.Random(4).sample(instances, len(instances))

    assert group_studies(shuffled) == group_studies(instances)


def test_nothing_makes_no_study():
    assert group_studies([]) == ()
