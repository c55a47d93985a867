"""What a person reads at the end of a measurement or a training."""

from msgspec.structs import replace

from bench.measure.tables import failed_run_table, sample_flaw_table
from bench.records.record import Failure, Record
from tests.small import circumstances, small
from tests.speeds import speed


def test_skipped_samples_are_listed_once_for_all_rounds() -> None:
    def record(name: str, **counts: object) -> Record:
        return Record(
            comparison="c",
            experiment=small("catlip", name=name),
            circumstances=circumstances(),
            measured=speed(**counts),
        )

    flawed = [record("catlip", round=n, skipped={"no image": 2, "truncated": 4}) for n in range(3)]
    rows = [tuple(row.values()) for row in sample_flaw_table([*flawed, record("clip")]).rows]
    counts = [("no image", 2), ("truncated", 4)]
    assert rows == [("catlip", "speed", *count) for count in counts]


def test_failed_runs_are_listed_in_the_order_of_their_starts_by_their_labels() -> None:
    def failed(what: str, name: str | None, started_at: str) -> Record:
        return Record(
            comparison="c",
            experiment=small("catlip", name=name) if name is not None else None,
            circumstances=replace(circumstances(), started_at=started_at),
            measured=Failure(what=what, reason="no memory left"),
        )

    table = failed_run_table(
        [failed("speed", "late", "2026-11-30"), failed("scoring", None, "2026-11-29")], str.upper
    )
    rows = [[cell.text_with_note for cell in row] for row in table.all_rows]
    assert rows == [
        ["none", "scoring", "no memory left", "2026-11-29"],
        ["LATE", "speed", "no memory left", "2026-11-30"],
    ]
