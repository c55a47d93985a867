"""Independent seeds for the random generators of a run."""

import numpy as np

TOWER, TEXT, HEAD, STEP, ORDER, AUGMENTATION, TEACHER, IMAGE_SIZE, SUBSET = range(9)
REPLACEMENT, SCENES, CAPTIONS, CAPTION = range(9, 13)


def derive_seed(seed: int, part: int, *key: int) -> int:
    """Return the seed of one generator of a run; it is equal on every machine."""
    return int(np.random.SeedSequence((seed, part, *key)).generate_state(1, np.uint64)[0] >> 1)
