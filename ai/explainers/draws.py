"""Where randomness comes from: one seed for an explanation, the same draws for every entry."""

from dataclasses import dataclass

import torch

from ai.model import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Draws:
    """What the caller's generator gave, once."""

    #: What that generator was seeded with, for the record.
    seed: int
    _state: int

    def generator(self) -> torch.Generator:
        """Return a generator on the CPU in the state that it has for every entry of a batch.

        So each entry is explained as if it were alone.
        """
        return torch.Generator().manual_seed(self._state)


def draws_of(settings: Settings) -> Draws:
    """Return the randomness of one explanation; without a generator of the caller, of seed 0."""
    source = settings.generator or torch.Generator().manual_seed(0)
    state = torch.randint(2**62, (1,), generator=source, device=source.device)
    return Draws(seed=source.initial_seed(), _state=int(state))
