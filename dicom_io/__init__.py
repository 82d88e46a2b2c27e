"""DICOM files to values, values to DICOM data sets, and the words that everybody uses."""
