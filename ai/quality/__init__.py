"""The measures of an explanation, one file per family."""
