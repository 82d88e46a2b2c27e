"""Series to Volume: the pixels of a series as numbers in patient space, or a named error."""

from dataclasses import dataclass

from pydicom import Dataset

from dicom_io.volume import Volume


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """One image that a task works on: its numbers, and the headers that results inherit from."""

    #: Name of the ``select`` entry that chose it.
    name: str
    volume: Volume
    #: Data sets without pixel data, one per instance, in the order of the volume's frames;
    #: type-2 attributes that the source lacks are present and empty. Never changed by encoders.
    headers: tuple[Dataset, ...]
