"""Records of trials. No torch here."""

import math
from statistics import fmean

from bench.records.record import NonNegative, PositiveCount
from bench.records.record_kind import RecordContent
from bench.records.scores import Share


class Trial(RecordContent, frozen=True, kw_only=True, tag="trial"):
    """How well a tower tells images of validation parts apart, after a training with settings that `tune` drew."""

    images: PositiveCount  # number seen in the training
    device_seconds: NonNegative  # of the training and the scoring
    # Accuracy of a linear probe on the validation part, by task; empty: a loss was not finite.
    accuracies: dict[str, Share]

    @property
    def accuracy(self) -> float:
        """The mean accuracy over the tasks; NaN if a loss was not finite."""
        return fmean(self.accuracies.values()) if self.accuracies else math.nan
