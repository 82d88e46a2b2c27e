"""What is wrong with a configuration: every mistake with its place, all at once."""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

from node.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One mistake of an administrator, and where to mend it."""

    #: File, as the administrator named it, or a flag of the command line.
    file: str
    #: Dotted path of the key, such as ``route[2].send_to[0]``; empty for the file as a whole.
    key: str
    #: What is wrong and what was expected.
    what: str

    def __str__(self) -> str:
        """Return ``file: key: what``."""
        return ": ".join(part for part in (self.file, self.key, self.what) if part)


class InvalidConfigError(ConfigError):
    """A configuration has mistakes; the message has one line for each."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a hint that names what ``name`` was probably meant to be, or what there is.

    The hint starts with a semicolon and may be appended to any message.
    """
    names = sorted(known)
    by_lower = {candidate.lower(): candidate for candidate in names}
    close = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.55)
    if close:
        return f"; did you mean {by_lower[close[0]]!r}?"
    if 0 < len(names) <= 12:
        return f"; there is {', '.join(names)}"
    return ""
