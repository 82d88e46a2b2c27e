"""Names of what an encoder makes: UIDs are derived from them, and the report finds them by them."""

REPORT = "report"
REPORT_BASIC = "report basic"
MEASUREMENTS = "measurements"
OUTCOME = "outcome"
SEGMENTATION = "segmentation"
BANDS = "bands"
OVERLAY = "overlay"
