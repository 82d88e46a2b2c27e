"""What an object of ours says of itself, read back from its file."""

from importlib.metadata import entry_points

import pytest

from dicom_io.codes import REJECTED_FOR_QUALITY
from dicom_io.encode.key_objects import Rejection, encode_rejection
from dicom_io.encode.objects import encode_analyses
from dicom_io.errors import DicomInputError
from dicom_io.origin import Predecessor
from dicom_io.own import read_own
from tests.build_analysis import make_analysis, make_card, make_input, make_origin

ENCODERS = {entry.name: entry.load() for entry in entry_points(group="pellucid.encoders")}


def written(dataset, folder):
    path = folder / "object.dcm"
    dataset.save_as(path, enforce_file_format=True)
    return path


@pytest.mark.parametrize("name", ["report", "segmentation", "overlay"])
def test_object_names_itself_and_its_model(name, tmp_path):
    source = make_input()
    analysis = make_analysis(source, model=make_card(name="nodule", version="1.2"))
    dataset, *_ = encode_analyses([analysis], [source], make_origin(), {name: ENCODERS[name]})

    own = read_own(written(dataset, tmp_path))

    assert (own.model_name, own.model_version) == ("nodule", "1.2")
    assert own.reference == Predecessor(
        study_instance_uid=dataset.StudyInstanceUID,
        series_instance_uid=dataset.SeriesInstanceUID,
        sop_class_uid=dataset.SOPClassUID,
        sop_instance_uid=dataset.SOPInstanceUID,
    )


def test_note_is_of_no_model(tmp_path):
    header = make_input().headers[0]
    rejected = Predecessor(
        study_instance_uid=str(header.StudyInstanceUID),
        series_instance_uid="1.2.3.9",
        sop_class_uid="1.2.840.10008.5.1.4.1.1.7",
        sop_instance_uid="1.2.3.9.1",
    )
    reason = Rejection(title=REJECTED_FOR_QUALITY, words="Retracted.")

    own = read_own(
        written(encode_rejection([rejected], header, origin=make_origin(), reason=reason), tmp_path)
    )

    assert (own.model_name, own.model_version) == ("", "")


def test_what_is_no_dicom_is_told(tmp_path):
    path = tmp_path / "object.dcm"
    path.write_bytes(b"nothing")

    with pytest.raises(DicomInputError, match=r"object\.dcm"):
        read_own(path)
