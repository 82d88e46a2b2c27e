"""How a result was made, as the last part of every document: for audits, and for machines."""

from pydicom import Dataset

from dicom_io.analysis import Analysis
from dicom_io.codes import DEVICE_OBSERVER_UID
from dicom_io.encode import content
from dicom_io.encode.words import method_text, parameter_text, subject_text
from dicom_io.origin import Origin
from dicom_io.report_codes import (
    CONFIG_HASH,
    EXPLAINER,
    MODEL,
    MODEL_VERSION,
    NODE_VERSION,
    PROVENANCE,
    ROUTE,
    WEIGHTS_SHA256,
)


def provenance(model: tuple[str, str, str], origin: Origin, document: Dataset) -> Dataset:
    """Return the part that names model, node and configuration.

    Parameters
    ----------
    model
        Name, version and sha256 of the weights, each empty where it is not known.
    """
    said = [
        *zip((MODEL, MODEL_VERSION, WEIGHTS_SHA256), model, strict=True),
        (NODE_VERSION, origin.software_version),
        (ROUTE, origin.route),
        (CONFIG_HASH, origin.config_hash),
    ]
    items = [content.text(name, words, document) for name, words in said if words]
    items.append(content.uid(DEVICE_OBSERVER_UID, origin.site.device_uid, document))
    return content.container(PROVENANCE, items, document)


def explainers(analysis: Analysis, document: Dataset) -> list[Dataset]:
    """Return each explainer with all its parameters, once."""
    said = {
        f"{subject_text(each)} by {method_text(each)}: {parameter_text(each)}": None
        for each in analysis.explanations
    }
    return [content.text(EXPLAINER, words, document) for words in said]
