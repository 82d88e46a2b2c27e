"""Steps that are taken side by side."""

import pytest

from node.steps import side_by_side


def walk(name, steps, track):
    for step in range(steps):
        track.append((name, step))
        yield
    return name


def test_everybody_takes_a_step_before_anybody_takes_the_next():
    track = []

    results = side_by_side(walk(name, steps, track) for name, steps in (("a", 2), ("b", 3)))

    assert results == ["a", "b"]
    assert track == [("a", 0), ("b", 0), ("a", 1), ("b", 1), ("b", 2)]


def test_nobody_is_nothing():
    assert side_by_side([]) == []


def test_who_has_no_step_to_take_has_a_result():
    assert side_by_side([walk("a", 0, []), walk("b", 1, [])]) == ["a", "b"]


def test_what_a_step_raises_is_raised():
    def fail():
        yield
        raise OSError("no disk")

    with pytest.raises(OSError, match="no disk"):
        side_by_side([walk("a", 3, []), fail()])
