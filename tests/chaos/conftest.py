"""How many faults are tried, and what draws them."""

import random
from dataclasses import dataclass

import pytest


@dataclass(frozen=True, slots=True)
class Tries:
    """A share of all tries with another seed each time, or a few tries that are the same each time."""

    share: float
    seed: int

    def __call__(self, *, few: int, full: int) -> int:
        """Return how many tries a test makes."""
        return max(few, round(full * self.share))

    @property
    def random(self) -> random.Random:
        """Return the generator of what is drawn."""
        return random.Random(self.seed)


@pytest.fixture
def tries(request: pytest.FixtureRequest) -> Tries:
    share = request.config.getoption("--tries")
    return Tries(share, request.config.getoption("randomly_seed") if share else 0)
