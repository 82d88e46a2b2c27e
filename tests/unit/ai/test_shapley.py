import itertools
import math

import pytest
import torch

from ai.explainers.shapley import certainty, drawn_pairs, shapley_values


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def coalition(row):
    return frozenset(row.nonzero()[:, 0].tolist())


def random_game(players):
    """Return a value, drawn at random, for every coalition."""
    generator = seeded(players)
    subsets = (
        frozenset(members)
        for size in range(players + 1)
        for members in itertools.combinations(range(players), size)
    )
    return {each: float(torch.randn((), generator=generator)) for each in subsets}


def by_definition(game, players):
    """Return what each player adds, on average over all orders of arrival (Shapley 1953)."""
    values = torch.zeros(players, dtype=torch.float64)
    for player in range(players):
        for members, value in game.items():
            if player not in members:
                orders = math.factorial(len(members)) * math.factorial(players - len(members) - 1)
                added = game[members | {player}] - value
                values[player] += orders / math.factorial(players) * added
    return values


def played(pairs, value, count=None):
    rows = pairs.coalitions(0, len(pairs.members) if count is None else count)
    return torch.tensor([value(row) for row in rows], dtype=torch.float64)


@pytest.mark.parametrize("players", range(1, 9))
def test_all_coalitions_give_the_values_by_definition(players):
    game = random_game(players)
    pairs = drawn_pairs(players, 1000, seeded())
    gain = game[frozenset(range(players))] - game[frozenset()]

    values = shapley_values(pairs, played(pairs, lambda row: game[coalition(row)]), gain)

    assert pairs.exhaustive
    assert torch.allclose(values, by_definition(game, players), atol=1e-12)


def test_an_additive_game_is_exact_from_single_players():
    worth = torch.linspace(-1, 2, 40, dtype=torch.float64)
    pairs = drawn_pairs(40, 100, seeded())

    values = shapley_values(
        pairs, played(pairs, lambda row: 3.0 + float(worth[row].sum()), 40), float(worth.sum())
    )

    assert torch.allclose(values, worth, atol=1e-12)


def test_values_sum_to_the_gain_however_few_coalitions_were_played():
    pairs = drawn_pairs(30, 200, seeded())
    noise = torch.randn(2 * 47, generator=seeded(), dtype=torch.float64)

    values = shapley_values(pairs, noise, 5.5)

    assert float(values.sum()) == pytest.approx(5.5, abs=1e-12)


@pytest.mark.parametrize("players", [5, 6, 20, 64])
def test_no_coalition_is_drawn_twice_and_each_comes_with_its_complement(players):
    pairs = drawn_pairs(players, 200, seeded())

    rows = pairs.coalitions(0, len(pairs.members))

    assert len({coalition(row) for row in rows}) == len(rows)
    assert torch.equal(rows[0::2], ~rows[1::2])
    assert torch.equal(pairs.members[: pairs.singles].sum(dim=0), torch.ones(players).long())


def test_every_beginning_has_sizes_in_the_proportions_of_the_kernel():
    pairs = drawn_pairs(32, 900, seeded())
    sizes = pairs.members.sum(dim=1)
    masses = torch.tensor(
        [(1 if size == 16 else 2) / (size * (32 - size)) for size in range(2, 17)]
    )

    for count in (200, 500, 900):
        drawn = torch.bincount(sizes[pairs.singles : count], minlength=17)[2:]
        due = masses / masses.sum() * (count - pairs.singles)
        assert (drawn - due).abs().max() <= 1.0


def test_draws_differ_by_seed_alone():
    once, again, other = (drawn_pairs(20, 100, seeded(seed)).members for seed in (0, 0, 1))

    assert torch.equal(once, again)
    assert not torch.equal(once, other)


def interacting(row):
    """Return a game of 24 players of which some only count together."""
    row = row.double()
    worth = torch.linspace(0, 1, 24, dtype=torch.float64)
    return (
        float(worth @ row) + 4 * float(row[2:6].prod() + row[10:13].prod()) - float(row[20:].prod())
    )


def test_what_is_foretold_of_the_values_comes_true():
    exact = torch.linspace(0, 1, 24, dtype=torch.float64)
    exact[2:6] += 4 / 4
    exact[10:13] += 4 / 3
    exact[20:] -= 1 / 4

    foretold, found = [], []
    for seed in range(12):
        pairs = drawn_pairs(24, 72, seeded(seed))
        values = played(pairs, interacting)
        gain = float(exact.sum())
        foretold.append(certainty(pairs, values, gain))
        estimate = shapley_values(pairs, values, gain)
        found.append(float(torch.corrcoef(torch.stack([estimate, exact]))[0, 1]))

    assert 0.5 < sum(found) / 12 < 0.99
    assert sum(foretold) / 12 == pytest.approx(sum(found) / 12, abs=0.05)


def test_nothing_at_all_is_certain():
    pairs = drawn_pairs(8, 60, seeded())

    assert certainty(pairs, torch.zeros(120, dtype=torch.float64), 0.0) == 1.0
