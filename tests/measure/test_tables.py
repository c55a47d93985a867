"""What a person reads at the end of a measurement or a training."""

from bench.measure.tables import sample_table
from bench.record import Record
from tests.small import circumstances, small
from tests.speeds import speed


def test_skipped_samples_and_empty_captions_are_listed_once_for_all_rounds() -> None:
    def record(name: str, **counts: object) -> Record:
        return Record(
            comparison="c",
            experiment=small("catlip", name=name),
            circumstances=circumstances(),
            measured=speed(**counts),
        )

    flawed = [record("catlip", round=n, skipped={"no image": 2, "truncated": 4}, empty_captions=1) for n in range(3)]
    rows = [tuple(row.values()) for row in sample_table([*flawed, record("clip")]).rows]
    counts = [("no image", 2), ("truncated", 4), ("empty caption (used)", 1)]
    assert rows == [("catlip", "speed", *count) for count in counts]
