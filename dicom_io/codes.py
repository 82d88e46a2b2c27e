"""Every coded concept that Pellucid writes, with the context group it is taken from."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Code:
    """A coded concept (PS3.3 section 8): value, coding scheme designator, meaning."""

    value: str
    scheme: str
    meaning: str


#: Coding scheme of our own concepts, identified in every object that uses it (PS3.3 C.12.1).
PRIVATE_SCHEME = "99PELLUCID"
