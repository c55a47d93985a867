"""Records of comparisons with other people's training code. No torch here."""

from bench.records.record import Durations, NonNegative
from bench.records.record_kind import RecordContent
from bench.records.scores import Count


class ReferenceRun(RecordContent, frozen=True, kw_only=True, tag="reference"):
    """One side of a comparison with other people's training code: a run of theirs or of ours."""

    is_timed = True

    side: str
    round: Count
    window_seconds: Durations
    losses: tuple[float, ...]  # of the first step with each batch, warm-up included
    # Computed, padding included; None: the method reads no text.
    tokens_per_caption: NonNegative | None
    commit: str = ""  # commit of the checkout beside which it ran; empty: none
