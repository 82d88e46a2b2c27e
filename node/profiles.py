"""Profiles: which results a kind of destination gets, and what stands in for what it refuses."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from dicom_io.encode.kinds import BASIC_OUTCOME_KIND, OUTCOME_KIND

GENERIC = "generic"

#: Name of a profile to the names of the results that a destination gets, foremost first.
PROFILES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        # What most viewers show, and a copy of the image for those that show nothing else.
        GENERIC: ("report", "measurements", "segmentation", "bands", "overlay"),
        # OHIF lists presentation states and selections with a warning and shows neither.
        "ohif": ("report", "measurements", "segmentation", "bands", "overlay"),
        "weasis": ("report", "measurements", "segmentation", "bands", "overlay", "key_objects"),
        # For programs and for later: numbers and outlines, no pictures that are painted for eyes.
        "archive": ("report", "measurements", "segmentation", "bands"),
    }
)

#: Name of a result to what carries the same where a destination does not take it, best first.
FALLBACKS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "measurements": ("report", "report_basic"),
        "report": ("report_basic", "overlay"),
        "segmentation": ("overlay",),
        "fractional": ("segmentation", "overlay"),
        "bands": ("overlay",),
        "bands_placed": ("overlay",),
        "parametric_map": ("bands", "overlay"),
        "parametric_map_coarse": ("bands", "overlay"),
        "presentation": ("overlay",),
        "overlay": ("bands", "segmentation"),
        "overlay_rle": ("overlay", "bands", "segmentation"),
        OUTCOME_KIND: (BASIC_OUTCOME_KIND,),
    }
)

#: Name of a result to another form of the very same: one of the two is enough.
_OTHER_FORMS: Mapping[str, str] = MappingProxyType({"overlay": "overlay_rle"})

#: Made with every task that makes what it stands in for: it costs next to nothing, and nobody can
#: make it any more once a destination has refused the other at the door.
RESERVES: Mapping[str, str] = MappingProxyType({"report": "report_basic"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A result that a destination is known not to take."""

    result: str
    #: What it gets for it; empty if nothing that it takes says the same.
    instead: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """What one destination gets of a task."""

    #: Names of results, in the order of what was wanted.
    results: tuple[str, ...]
    refusals: tuple[Refusal, ...] = ()


def share(wanted: Sequence[str], takes: Callable[[str], bool]) -> Share:
    """Return what of ``wanted`` a destination gets.

    Parameters
    ----------
    wanted
        Names of results.
    takes
        Whether the destination takes a result, as far as it is known.

    Notes
    -----
    A destination that takes nothing of it all gets everything: each object is then refused at the
    door, which ``pellucid status`` shows, instead of never being mentioned again.
    """
    got: dict[str, None] = {}
    refusals = []
    for result in wanted:
        if takes(result):
            got[result] = None
            continue
        instead = _instead(result, wanted, takes)
        refusals.append(Refusal(result=result, instead=instead))
        if instead:
            got[instead] = None
    return Share(results=tuple(got) or tuple(wanted), refusals=tuple(refusals))


def with_reserves(results: Iterable[str]) -> tuple[str, ...]:
    """Return the results that a task makes for these: each once, and what is kept in reserve."""
    made = dict.fromkeys(results)
    return tuple({**made, **dict.fromkeys(RESERVES[each] for each in made if each in RESERVES)})


def _instead(result: str, wanted: Sequence[str], takes: Callable[[str], bool]) -> str:
    for each in FALLBACKS.get(result, ()):
        other = _OTHER_FORMS.get(each, "")
        if other in wanted and takes(other):
            return other
        if takes(each):
            return each
    return ""
