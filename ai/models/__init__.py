"""The model kinds that Pellucid can load, one file each."""
