"""Independent seeds for the random generators of a run."""

import numpy as np

# The parts of a run with a generator of their own.
TOWER = 0
TEXT = 1
HEAD = 2
STEP = 3
ORDER = 4
AUGMENTATION = 5
TEACHER = 6
IMAGE_SIZE = 7
SUBSET = 8
REPLACEMENT = 9
CAPTIONS = 11
CAPTION = 12


def derive_seed(seed: int, part: int, *key: int) -> int:
    """Return an independent seed for a part of a run, such as ORDER, and further numbers, such as the epoch."""
    sequence = np.random.SeedSequence((seed, part, *key))
    number = sequence.generate_state(1, np.uint64)[0]
    return int(number >> 1)  # below 2**63
