"""Concepts that only structured reports are written with, beside those of ``dicom_io.codes``."""

from dicom_io.codes import PRIVATE_SCHEME, Code

#: Title of everything that is to be read. Not 126000: viewers look for measurements in that, and
#: for text in any other. Not a diagnostic imaging report either: no person has made it.
AI_REPORT = Code("AI-REPORT", PRIVATE_SCHEME, "AI report")

# How a task ended that has no analysis (CID 6047, CID 6042).
NOTHING_SUCCEEDED = Code("111245", "DCM", "No algorithms succeeded; without findings")
FAILED = Code("111224", "DCM", "Failed")
NOT_ATTEMPTED = Code("111225", "DCM", "Not Attempted")
ANALYSIS_STATUS = Code("ANALYSIS-STATUS", PRIVATE_SCHEME, "Status of the analysis")
NOT_ANALYZED_REASON = Code("NOT-ANALYZED-WHY", PRIVATE_SCHEME, "Reason")
CRITERION = Code("CRITERION", PRIVATE_SCHEME, "Criterion of the intended use that is not met")
ADVICE = Code("ADVICE", PRIVATE_SCHEME, "What to do")

# Who made it (TID 4019, TID 1004), in a part of its own at the end.
PROVENANCE = Code("PROVENANCE", PRIVATE_SCHEME, "How this result was made")
MODEL = Code("MODEL", PRIVATE_SCHEME, "AI model")
MODEL_VERSION = Code("MODEL-VERSION", PRIVATE_SCHEME, "Version of the model")
WEIGHTS_SHA256 = Code("WEIGHTS-SHA256", PRIVATE_SCHEME, "sha256 of the model's weights")
EXPLAINER = Code("EXPLAINER", PRIVATE_SCHEME, "Explainer and its parameters")
NODE_VERSION = Code("NODE-VERSION", PRIVATE_SCHEME, "Version of the node")
ROUTE = Code("ROUTE", PRIVATE_SCHEME, "Route")
CONFIG_HASH = Code("CONFIG-HASH", PRIVATE_SCHEME, "sha256 of the configuration")

# Parts of measurement groups (TID 1501, TID 1410, TID 4019, TID 4108).
MEASUREMENT_GROUP = Code("125007", "DCM", "Measurement Group")
FINDING = Code("121071", "DCM", "Finding")
FINDING_CATEGORY = Code("276214006", "SCT", "Finding category")
TRACKING_IDENTIFIER = Code("112039", "DCM", "Tracking Identifier")
TRACKING_UID = Code("112040", "DCM", "Tracking Unique Identifier")
ALGORITHM_FAMILY = Code("111000", "DCM", "Algorithm Family")
ALGORITHM_NAME = Code("111001", "DCM", "Algorithm Name")
ALGORITHM_VERSION = Code("111003", "DCM", "Algorithm Version")
IMAGE_REGION = Code("111030", "DCM", "Image Region")
SOURCE = Code("260753009", "SCT", "Source")
LABEL = Code("LABEL", PRIVATE_SCHEME, "What the model calls it")
PERCENT = Code("%", "UCUM", "percent")
#: Of what the slice shows; the names are short because viewers cut them at the window's edge.
EVIDENCE_SHARE = Code("EVIDENCE-SHARE", PRIVATE_SCHEME, "AI evidence in the box")
OUTLINED_SHARE = Code("OUTLINED-SHARE", PRIVATE_SCHEME, "AI outline in the box")

# Who observed (TID 1204, TID 1004).
LANGUAGE = Code("121049", "DCM", "Language of Content Item and Descendants")
DEVICE_OBSERVER_MANUFACTURER = Code("121014", "DCM", "Device Observer Manufacturer")
DEVICE_OBSERVER_MODEL = Code("121015", "DCM", "Device Observer Model Name")
DEVICE_OBSERVER_SERIAL = Code("121016", "DCM", "Device Observer Serial Number")

# Parts of what is to be read.
WHERE = Code("WHERE", PRIVATE_SCHEME, "Where to look")
COMPLETENESS = Code("COMPLETENESS", PRIVATE_SCHEME, "Was all done that was asked for")
PRIOR = Code("PRIOR", PRIVATE_SCHEME, "Comparison with the prior")
PRIOR_STUDY_DATE = Code("PRIOR-STUDY-DATE", PRIVATE_SCHEME, "Study date of the prior")
STUDY_UID = Code("110180", "DCM", "Study Instance UID")
THEN = Code("THEN", PRIVATE_SCHEME, "In the prior")
NOW = Code("NOW", PRIVATE_SCHEME, "Now")
