"""The error of a step whose loss or gradient is not finite."""

from collections.abc import Sequence

MAX_KEYS_SHOWN = 8


class NotFiniteError(FloatingPointError):
    """The loss or the gradient of a step is not finite, so that its update was skipped; the run ends."""

    def __init__(self, step: int, sample_keys: Sequence[str]) -> None:
        """Name the step and its first samples."""
        text = ", ".join(sample_keys[:MAX_KEYS_SHOWN])
        super().__init__(f"loss or gradient of step {step} is not finite; first samples: {text}")
