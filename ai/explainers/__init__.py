"""The explanation methods, one file per family."""
