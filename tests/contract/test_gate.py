"""What the gate asks of a method is what the method states, over all entry points."""

import pytest

from ai.targets import ClassLogit
from node.config import GateSettings
from node.gate import RESIDUAL, checks_for
from tests.build_networks import image
from tests.contract.test_explainers import EXPLAINERS, quick, subject


def limit_for(name, measured=()):
    """The residual that the gate accepts of a method, or None if it asks for none."""
    checks = checks_for(name, measured, GateSettings())
    return next((check.limit for check in checks if check.measure == RESIDUAL.measure), None)


@pytest.mark.parametrize("name", sorted(EXPLAINERS))
def test_a_method_is_held_to_the_residual_that_it_states_and_to_no_other(name):
    network, x = subject(name), image(1, 1, 48, 48)

    attribution = quick(name).explain(network, x, ClassLogit(1))

    if attribution.residual is None:
        assert limit_for(name) is None
    else:
        # A method must not stop where the gate would fail it.
        tolerance = getattr(EXPLAINERS[name](), "tolerance", 0.0)
        assert tolerance <= limit_for(name, {RESIDUAL.measure})
