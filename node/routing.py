"""Which routes want a study, and why or why not; pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from dicom_io.select import matching_series
from dicom_io.study import Series, Study
from node.config import Mode, Peer, Route
from node.task import Reception
from node.when import holds

#: Stands in ``send_to`` for whoever sent the study.
SENDER = "@sender"


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """A route that wants a study."""

    route: Route
    #: Names of the peers that the results are owed to, without repetition; empty for a shadow.
    destinations: tuple[str, ...]
    #: SOP Instance UIDs of everything that the route's ``select`` takes.
    selected: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What one route makes of a study."""

    route: Route
    #: None if the route does not want the study.
    match: Match | None
    #: One sentence per rule, in the order of their evaluation; the last one decided.
    reasons: tuple[str, ...]


def matching_routes(
    study: Study,
    receptions: Sequence[Reception],
    routes: Iterable[Route],
    peers: Mapping[str, Peer],
) -> tuple[Match, ...]:
    """Return the routes that want ``study``, in their order in the configuration.

    Parameters
    ----------
    receptions
        Every arrival of the study's instances. One arrival must meet both the called AE titles
        and the senders of a route.
    peers
        By name: what the senders of the configuration are called on the wire.

    Notes
    -----
    ``when`` is asked of each selected series, by the attributes of its first image, of those that
    conform if there are any; one series for which it is true is enough.
    """
    judgements = (judge(study, receptions, route, peers) for route in routes)
    return tuple(judgement.match for judgement in judgements if judgement.match is not None)


def judge(
    study: Study, receptions: Sequence[Reception], route: Route, peers: Mapping[str, Peer]
) -> Judgement:
    """Return whether ``route`` wants ``study``, and the reasons in words for an administrator."""
    if not route.enabled:
        return Judgement(route=route, match=None, reasons=("the route is not enabled",))
    wanted, reasons = _wanted_receptions(receptions, route, peers)
    if not wanted:
        return Judgement(route=route, match=None, reasons=reasons)
    selected, of_select = _selected(study, route)
    reasons = (*reasons, *of_select)
    if not selected:
        return Judgement(route=route, match=None, reasons=reasons)
    met = any(holds(route.when, _tags_of(series)) for series in selected)
    if route.when:
        words = "is true" if met else "is not true"
        reasons = (*reasons, f"when {words} of a selected series: {route.when}")
    if not met:
        return Judgement(route=route, match=None, reasons=reasons)
    match = Match(
        route=route,
        destinations=destinations_of(route, receptions, peers),
        selected=frozenset(
            instance.sop_instance_uid for series in selected for instance in series.instances
        ),
    )
    return Judgement(route=route, match=match, reasons=reasons)


def destinations_of(
    route: Route, receptions: Sequence[Reception], peers: Mapping[str, Peer]
) -> tuple[str, ...]:
    """Return the names of the peers that results of ``route`` are owed to; none for a shadow.

    Parameters
    ----------
    receptions
        Every arrival of the study; ``@sender`` is whoever sent what the route wants.
    """
    if route.mode is Mode.SHADOW:
        return ()
    wanted, _ = _wanted_receptions(receptions, route, peers)
    senders = [name for reception in wanted for name in senders_of(reception, peers)]
    names = (name for entry in route.send_to for name in (senders if entry == SENDER else [entry]))
    return tuple(dict.fromkeys(names))


def senders_of(reception: Reception, peers: Mapping[str, Peer]) -> tuple[str, ...]:
    """Return the names of the peers that ``reception`` came from.

    AE titles need not be unique: of several peers with the sender's title, those whose address
    is the sender's are meant; if none has it (hosts given by name), all of them.
    """
    titled = [peer for peer in peers.values() if peer.ae_title == reception.calling_ae]
    addressed = [peer for peer in titled if peer.host == reception.address]
    return tuple(peer.name for peer in addressed or titled)


def _wanted_receptions(
    receptions: Sequence[Reception], route: Route, peers: Mapping[str, Peer]
) -> tuple[tuple[Reception, ...], tuple[str, ...]]:
    called = tuple(r for r in receptions if not route.called or r.called_ae in route.called)
    wanted = tuple(r for r in called if _is_from(r, route, peers))
    reasons = []
    if route.called:
        heard = _listed(r.called_ae for r in receptions)
        reasons.append(f"called {_listed(route.called)}: the study was sent to {heard}")
    if route.from_peers and called:
        senders = _listed(r.calling_ae for r in called)
        reasons.append(f"from {_listed(route.from_peers)}: the study came from {senders}")
    if not receptions:
        reasons.append("the study was received from nobody")
    return wanted, tuple(reasons)


def _is_from(reception: Reception, route: Route, peers: Mapping[str, Peer]) -> bool:
    if not route.from_peers:
        return True
    return any(name in route.from_peers for name in senders_of(reception, peers))


def _selected(study: Study, route: Route) -> tuple[tuple[Series, ...], tuple[str, ...]]:
    """Return the series that the entries of ``select`` take; none if one entry takes nothing."""
    found: list[Series] = []
    reasons: list[str] = []
    for selector in route.select:
        series = matching_series(study, selector)
        uids = _listed(each.series_instance_uid for each in series)
        reasons.append(f"select {selector.name} takes {uids or 'no series'}")
        if not series:
            return (), tuple(reasons)
        found.extend(series)
    return tuple(found), tuple(reasons)


def _tags_of(series: Series) -> Mapping[str, str]:
    whole = (each for each in series.instances if not each.nonconformance)
    return next(whole, series.instances[0]).tags


def _listed(names: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(names))
