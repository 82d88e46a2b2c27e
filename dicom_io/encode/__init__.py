"""The encoders: one kind of DICOM result object per file."""
