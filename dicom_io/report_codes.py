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
