"""Whether two stored instances show the same: the hash of their pixel data alone."""

import hashlib
import mmap
from pathlib import Path

from dicom_io.part10 import data_set_start
from dicom_io.structure import read_structure


def pixels_sha256(path: Path, transfer_syntax_uid: str) -> str:
    """Return the hash (hex) of the pixel data of a stored instance, as it is encoded.

    Parameters
    ----------
    path
        A file that begins with what ``part10_head`` makes.

    Returns
    -------
    str
        Empty if it holds no pixel data, or if the file is not there any more.

    Raises
    ------
    StructureError
        It was changed since it was received.
    """
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return ""
    with (
        file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as pages,
        memoryview(pages) as content,
        content[data_set_start(content) :] as data_set,
    ):
        found = read_structure(data_set, transfer_syntax_uid).pixels
        if found is None:
            return ""
        with data_set[slice(*found)] as pixels:
            return hashlib.sha256(pixels).hexdigest()
