"""All objects of a task: in order, checked, none twice."""

from dataclasses import replace

import pytest
from pydicom import Dataset

from dicom_io.encode import relevance_bands, report, secondary_capture, segmentation
from dicom_io.encode.objects import encode_analyses
from dicom_io.errors import EncodingError
from dicom_io.origin import Predecessor
from tests.build_analysis import make_analysis, make_input, make_origin

ENCODERS = {
    "report": report.encode,
    "overlay": secondary_capture.encode,
    "bands": relevance_bands.encode,
    "segmentation": segmentation.encode,
}


def test_report_comes_last_and_sees_everything_before_it():
    source = make_input()
    seen = []

    def watching(analysis, source, origin, produced):
        seen.extend(dataset.Modality for dataset in produced)
        return report.encode(analysis, source, origin, produced)

    objects = encode_analyses(
        [make_analysis(source)], [source], make_origin(), ENCODERS | {"report": watching}
    )

    assert [dataset.Modality for dataset in objects][:2] == ["SEG", "SEG"]
    assert objects[-1].Modality == "SR"
    assert len(seen) == len(objects) - 1


def test_third_party_encoder_runs_before_the_report():
    source = make_input()
    order = []

    def other(analysis, source, origin, produced):
        order.append([dataset.Modality for dataset in produced])
        return ()

    encode_analyses([make_analysis(source)], [source], make_origin(), ENCODERS | {"zebra": other})

    assert "SR" not in order[0]
    assert "OT" in order[0]


def test_only_the_encoders_asked_for_run():
    source = make_input()

    objects = encode_analyses(
        [make_analysis(source)], [source], make_origin(), {"report": report.encode}
    )

    assert [dataset.Modality for dataset in objects] == ["SR"]


def test_object_that_fails_its_check_stops_the_task():
    source = make_input()

    def careless(analysis, source, origin, produced):
        (dataset,) = segmentation.encode(analysis, source, origin, produced)
        dataset.PatientID = "another"
        return (dataset,)

    with pytest.raises(EncodingError, match="PatientID differs from the source"):
        encode_analyses(
            [make_analysis(source)], [source], make_origin(), {"segmentation": careless}
        )


def test_reference_to_an_unknown_object_stops_the_task():
    source = make_input()
    analysis = make_analysis(source)
    elsewhere = segmentation.encode(analysis, source, make_origin(), ())

    def forgetful(analysis, source, origin, produced):
        return report.encode(analysis, source, origin, elsewhere)

    with pytest.raises(EncodingError, match="refers to unknown instance"):
        encode_analyses([analysis], [source], make_origin(), {"report": forgetful})


def test_same_analysis_twice_is_refused():
    source = make_input()
    analysis = make_analysis(source)

    with pytest.raises(EncodingError, match="same analysis twice"):
        encode_analyses([analysis, analysis], [source], make_origin(), ENCODERS)


def test_analysis_of_an_unknown_input_is_refused():
    source = make_input()
    analysis = make_analysis(source, input_name="flair")

    with pytest.raises(EncodingError, match="'flair', the task has: image"):
        encode_analyses([analysis], [source], make_origin(), ENCODERS)


def test_empty_data_set_of_an_encoder_is_refused():
    source = make_input()

    with pytest.raises(EncodingError, match="SOPInstanceUID has no value"):
        encode_analyses(
            [make_analysis(source)],
            [source],
            make_origin(),
            {"empty": lambda *_: (Dataset(),)},
        )


def test_documents_name_what_they_take_the_place_of():
    source = make_input()
    earlier = Predecessor(
        study_instance_uid="1.2.3",
        series_instance_uid="1.2.3.70",
        sop_class_uid=report.SOP_CLASS_UID,
        sop_instance_uid="1.2.3.71",
    )
    picture = replace(earlier, sop_class_uid="1.2.840.10008.5.1.4.1.1.7", sop_instance_uid="1.2.9")
    origin = replace(make_origin(), predecessors=(earlier, picture))

    objects = encode_analyses([make_analysis(source)], [source], origin, ENCODERS)

    (study,) = objects[-1].PredecessorDocumentsSequence
    named = study.ReferencedSeriesSequence[0].ReferencedSOPSequence
    assert [each.ReferencedSOPInstanceUID for each in named] == ["1.2.3.71"]
    again = encode_analyses([make_analysis(source)], [source], make_origin(), ENCODERS)
    assert [d.SOPInstanceUID for d in again] == [d.SOPInstanceUID for d in objects]
