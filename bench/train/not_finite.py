"""The error of a step whose loss or gradient is not finite."""

from collections.abc import Sequence

MAX_KEYS_SHOWN = 8


class NotFiniteError(FloatingPointError):
    """The update of a step was skipped, and the run ends."""

    def __init__(self, step: int, keys: Sequence[str], file: str = "") -> None:
        """Name the step and its first samples, and the file that holds all of them."""
        text = ", ".join(keys[:MAX_KEYS_SHOWN])
        where = f"; all {len(keys)} are in {file}" if file else ""
        super().__init__(
            f"loss or gradient of step {step} is not finite; first samples: {text}{where}"
        )
        self.step = step
        self.keys = tuple(keys)
