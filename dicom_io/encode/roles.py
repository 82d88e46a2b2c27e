"""Names of what an encoder makes: UIDs are derived from them, and the report finds them by them."""

REPORT = "report"
SEGMENTATION = "segmentation"
BANDS = "bands"
OVERLAY = "overlay"
