"""What is known to be true of an image, read from DICOM, NIfTI or a table onto its grid."""
