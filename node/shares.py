"""What each destination of a task gets: its profile, cut to what it takes."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

from dicom_io.encode.kinds import COMPRESSED, KINDS, NOTES, OUTCOME_KIND
from node.config import Config, Plan, Route, plan_of
from node.ledger import accepted
from node.ledger.accepted import Accepted
from node.ledger.engine import Engine
from node.profiles import PROFILES, Share, share, with_reserves
from node.task import RefusedResult

#: PS3.5 A.1, A.2: what an object can be written in anew when it is sent.
UNCOMPRESSED = ("1.2.840.10008.1.2.1", "1.2.840.10008.1.2")


def shares_of(
    engine: Engine, config: Config, route: Route, destinations: Sequence[str]
) -> dict[str, Share]:
    """Return the share of each destination, by what is known of it now.

    What a route asks for goes before the profile. A destination that has never been reached, and
    one that is no peer any more, is taken to take everything.
    """
    known = accepted.known(engine, destinations)
    return {
        name: share(_wanted(config, route, name), partial(_takes, known.get(name)))
        for name in destinations
    }


def shares_of_outcome(engine: Engine, destinations: Sequence[str]) -> dict[str, Share]:
    """Return for each destination the form in which it takes what is said without a result."""
    known = accepted.known(engine, destinations)
    return {name: share((OUTCOME_KIND,), partial(_takes, known.get(name))) for name in destinations}


def plan_for(config: Config, route: Route, shares: Mapping[str, Share]) -> Plan:
    """Return the plan that makes what all shares need together, and what is kept in reserve.

    For nobody (a shadow), all that the route asks for, else what the generic profile does.
    """
    plan = plan_of(config, route)
    wanted = [result for each in shares.values() for result in each.results]
    return replace(plan, results=with_reserves(wanted or plan.results))


def takers(result: str, shares: Mapping[str, Share]) -> tuple[str, ...]:
    """Return the destinations that a result is owed to; all if it has no name."""
    return tuple(name for name, each in shares.items() if not result or result in each.results)


def refused_results(shares: Mapping[str, Share]) -> tuple[RefusedResult, ...]:
    """Return what the destinations are known not to take, and what each gets instead."""
    return tuple(
        RefusedResult(destination=name, result=refusal.result, instead=refusal.instead)
        for name, each in shares.items()
        for refusal in each.refusals
    )


def _wanted(config: Config, route: Route, destination: str) -> Sequence[str]:
    if route.results is not None:
        return route.results
    peer = config.peers.get(destination)
    return plan_of(config, route).results if peer is None else PROFILES[peer.profile]


def _takes(known: Accepted | None, result: str) -> bool:
    if known is None:
        return True
    classes = KINDS.get(result) or NOTES.get(result, ())
    syntaxes = (COMPRESSED[result],) if result in COMPRESSED else UNCOMPRESSED
    return all(known.takes(uid, syntaxes) for uid in classes)
