"""Seeds of the parts of a run, so that no two parts draw the same numbers."""

import numpy as np

TOWER, TEXT, HEAD, STEP, ORDER, AUGMENTATION, TEACHER, IMAGE_SIZE, SUBSET, REPLACEMENT, SCENES = range(11)


def seed_for(seed: int, part: int, *key: int) -> int:
    """Return a generator's seed for a part of an experiment's run; the same on every machine."""
    return int(np.random.SeedSequence((seed, part, *key)).generate_state(1, np.uint64)[0] >> 1)
