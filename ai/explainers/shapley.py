"""Shapley values of a game by weighted least squares, from coalitions drawn in pairs.

Nothing here knows of images or networks. A game gives each coalition of players a value; the
Shapley values are the additive game nearest to it under the kernel of Lundberg and Lee 2017, exact
for all players and for none. A coalition and its complement weigh the same, so that of a pair only
the difference counts (Covert and Lee 2021): half the unknowns of the sampling cancel.
"""

import heapq
import itertools
import math
from dataclasses import dataclass

import torch
from torch import Tensor

#: Of fewer coalitions than this many times those wanted all are listed and shuffled.
_LISTED = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairs:
    """Coalitions drawn without replacement, in an order of which every beginning is fair."""

    #: bool [P, players], the smaller of each pair; its complement is the other.
    members: Tensor
    #: int64 [P], how many times its size occurred before.
    repeats: Tensor
    #: How many pairs come first, each player alone and missing.
    singles: int

    @property
    def exhaustive(self) -> bool:
        """Return whether these are all the pairs that there are."""
        return len(self.members) == _pairs_of(self.members.shape[1])

    def coalitions(self, first: int, last: int) -> Tensor:
        """Return pairs ``first`` to one before ``last``, bool [2 N, players], one after another."""
        members = self.members[first:last]
        return torch.stack([members, ~members], dim=1).flatten(0, 1)


def drawn_pairs(players: int, most: int, generator: torch.Generator) -> Pairs:
    """Return so many pairs of coalitions, or all if there are no more.

    Every player alone (and missing) comes first. Then sizes follow in the proportions of the
    kernel's mass, 1 / (size (players - size)), each until its coalitions are used up, and among
    those of a size all are equally likely.

    Parameters
    ----------
    players
        At least 1.
    most
        At least ``players``, unless all pairs are fewer.
    generator
        On the CPU.
    """
    order = _sizes(players, min(most, _pairs_of(players)))
    drawn = {size: iter(_subsets(players, size, order.count(size), generator)) for size in {*order}}
    members = torch.zeros(len(order), players, dtype=torch.bool)
    repeats = torch.zeros(len(order), dtype=torch.int64)
    seen = dict.fromkeys(drawn, 0)
    for row, size in enumerate(order):
        members[row, list(next(drawn[size]))] = True
        repeats[row] = seen[size]
        seen[size] += 1
    return Pairs(members=members, repeats=repeats, singles=order.count(1))


def shapley_values(pairs: Pairs, values: Tensor, gain: float) -> Tensor:
    """Return the values [players] that fit the pairs played so far; they sum to the gain.

    Parameters
    ----------
    pairs
        Of which the first ``len(values) / 2`` were played.
    values
        float64 [2 P], of the game at ``pairs.coalitions(0, P)``.
    gain
        The game's value of all players less that of none.
    """
    played = len(values) // 2
    return _fit(pairs, values, gain, torch.arange(played))


def certainty(pairs: Pairs, values: Tensor, gain: float) -> float:
    """Return about how the players' values correlate with their exact ones, 0 to 1.

    Either half of the pairs drawn gives its own values; their correlation r foretells that of the
    whole with another like it, 2 r / (1 + r) (Spearman 1910, Brown 1910), whose root is that with
    the truth. Values are correlated, not ranks: where one player has nearly all, the order of the
    others is chance and never settles. The pairs of single players belong to both halves, since
    they are complete, so this flatters until twice as many are drawn. Parameters as for
    ``shapley_values``.
    """
    played = torch.arange(len(values) // 2)
    single, odd = played < pairs.singles, pairs.repeats[played] % 2 == 1
    halves = torch.stack(
        [_fit(pairs, values, gain, played[single | (odd == side)]) for side in (False, True)]
    )
    apart = halves - halves.mean(dim=1, keepdim=True)
    size = float(apart.square().sum(dim=1).prod().sqrt())
    alike = max(0.0, float(apart.prod(dim=0).sum()) / size) if size > 0 else 1.0
    return math.sqrt(2 * alike / (1 + alike))


def _pairs_of(players: int) -> int:
    return (1 << (players - 1)) - 1


def _pairs_of_size(players: int, size: int) -> int:
    both = 2 * size == players
    return math.comb(players, size) // (2 if both else 1)


def _sizes(players: int, count: int) -> list[int]:
    """Return the size of the smaller coalition of each pair.

    The next pair goes to the size whose mass is largest beside twice what it has and one, as
    Sainte-Lague's method gives seats to parties.
    """
    singles = _pairs_of_size(players, 1) if players > 1 else 0
    order = [1] * min(count, singles)
    waiting = [(-_mass(players, size), size, 0) for size in range(2, players // 2 + 1)]
    heapq.heapify(waiting)
    while len(order) < count:
        _, size, has = heapq.heappop(waiting)
        order.append(size)
        if has + 1 < _pairs_of_size(players, size):
            heapq.heappush(waiting, (-_mass(players, size) / (2 * has + 3), size, has + 1))
    return order


def _mass(players: int, size: int) -> float:
    """Return the kernel's mass of all pairs of a size, up to a factor."""
    return (1 if 2 * size == players else 2) / (size * (players - size))


def _subsets(
    players: int, size: int, count: int, generator: torch.Generator
) -> list[tuple[int, ...]]:
    """Return so many subsets of a size; if it is half of the players, one of each pair."""
    first = (0,) if 2 * size == players else ()
    pool = range(len(first), players)
    rest = size - len(first)
    total = math.comb(len(pool), rest)
    if total <= _LISTED * count:
        listed = list(itertools.combinations(pool, rest))
        chosen = torch.randperm(total, generator=generator)[:count].tolist()
        return [(*first, *listed[each]) for each in chosen]
    drawn: dict[tuple[int, ...], None] = {}
    while len(drawn) < count:
        picked = torch.randperm(len(pool), generator=generator)[:rest] + len(first)
        drawn[(*first, *sorted(picked.tolist()))] = None
    return list(drawn)


def _fit(pairs: Pairs, values: Tensor, gain: float, chosen: Tensor) -> Tensor:
    players = pairs.members.shape[1]
    members = pairs.members[chosen]
    sizes = members.sum(dim=1)
    masses = torch.tensor(
        [0.0, *(_mass(players, size) for size in range(1, players // 2 + 1))], dtype=torch.float64
    )
    weights = (masses / torch.bincount(sizes, minlength=len(masses)).clamp(min=1))[sizes]
    # In a pair s . phi = v(S) - v(not S), s being 1 for who is in S and -1 for who is not.
    signs = members.double() * 2 - 1
    differences = values.reshape(-1, 2)[chosen].diff(dim=1)[:, 0].neg()
    even = gain / players
    # The sum is kept by fitting only what is left of an even division, which sums to zero.
    left = differences - signs.sum(dim=1) * even
    centered = signs - signs.mean(dim=1, keepdim=True)
    root = weights.sqrt()
    uneven: Tensor = torch.linalg.lstsq(
        root[:, None] * centered, (root * left)[:, None], driver="gelsd"
    ).solution[:, 0]
    return even + uneven - uneven.mean()
