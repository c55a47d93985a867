"""What every rank of a distributed run measured: the spread over the ranks, and a slow rank. No torch here."""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from bench.experiment.fields import RuntimeSettings
from bench.measure.throughput import Run, timed_runs
from bench.records.record import PHASE_FIGURE, Memory, Record, Speed
from bench.statistics.verdicts import find_slow_rank
from bench.tables.formats import format_rate
from bench.tables.tables import Cell, Column, Table

# Phases in which a rank of `ddp` waits for no other. Sharded weights are gathered in the forward, too.
OWN_WORK = ("data", "augmentation", "image forward", "text forward")
PEAK_MEMORY, MIB = "peak memory, MiB", 2**20


@dataclass(frozen=True, slots=True)
class RankSpread:
    """A figure's minimum, median and maximum over the ranks, with the first ranks that have them."""

    figure: str
    least: float
    rank_of_minimum: int
    median: float
    most: float
    rank_of_maximum: int


@dataclass(frozen=True, slots=True)
class SlowRank:
    """A rank whose own work takes `factor` times that of the other ranks, in an experiment."""

    experiment: str
    rank: int
    host: str
    factor: float

    def __str__(self) -> str:
        work = f"its data, augmentation and forwards take {self.factor:.2f} times those of the other ranks"
        return f"Rank {self.rank} ({self.host}) is slow: {work} in {self.experiment}, and all ranks wait for it."


def spreads_over_ranks(records: Sequence[Record], name: str) -> list[RankSpread]:
    """Return the spread of every figure of an experiment's ranks: its medians over the runs, and peaks of memory."""
    spreads, runs = (
        list[RankSpread](),
        [speed for _, speed in _distributed_runs(records, [name]).get(name, [])],
    )
    for figure in dict.fromkeys(one for speed in runs for one in speed.rank_figures):
        rows = [speed.rank_figures[figure] for speed in runs if figure in speed.rank_figures]
        spreads.append(_spread(figure, [median(of_rank) for of_rank in zip(*rows, strict=True)]))
    for record in records:
        memory, experiment = record.measured, record.experiment
        if (
            isinstance(memory, Memory)
            and memory.rank_peak_bytes
            and experiment
            and experiment.name == name
        ):
            spreads.append(_spread(PEAK_MEMORY, [peak / MIB for peak in memory.rank_peak_bytes]))
    return spreads


def find_slow_ranks(records: Iterable[Record], names: Iterable[str]) -> list[SlowRank]:
    """Return the slowest rank of each experiment that has a slow one; with sharded weights none can be told."""
    found = list[SlowRank]()
    for name, runs in _distributed_runs(records, names).items():
        work = [seconds for one, speed in runs if (seconds := _own_work(one.runtime, speed))]
        if slow := find_slow_rank(work):
            rank, factor = slow
            found.append(
                SlowRank(
                    name,
                    rank,
                    " or ".join(dict.fromkeys(speed.rank_hosts[rank] for _, speed in runs)),
                    factor,
                )
            )
    return found


def rank_table(
    records: Sequence[Record], names: Collection[str], label: Callable[[str], str] = str
) -> Table:
    """List the spread of every figure over the ranks, experiments by their labels; empty for single processes."""
    columns = [
        *Column.texts("experiment", "figure"),
        *map(Column, ("min", "rank of min", "median")),
    ]
    columns += map(Column, ("max", "rank of max"))
    rows = [
        [
            Cell.of_name(label(name), name),
            Cell.of(one.figure),
            Cell.of(one.least, format_rate),
            Cell.of(one.rank_of_minimum),
            *(Cell.of(value, format_rate) for value in (one.median, one.most)),
            Cell.of(one.rank_of_maximum),
        ]
        for name in names
        for one in spreads_over_ranks(records, name)
    ]
    note = "Medians over steps and rounds. A phase with communication includes the wait for slower ranks."
    notes = [note, *map(str, find_slow_ranks(records, names))]
    return Table.of_rows("Spread over the ranks", columns, rows, "\n".join(notes))


def _distributed_runs(records: Iterable[Record], names: Iterable[str]) -> dict[str, list[Run]]:
    """Return the distributed runs of each of the names that has any, those with as many processes as the first."""
    found: dict[str, list[Run]] = {}
    for name, runs in timed_runs(records, names).items():
        distributed = [(one, speed) for one, speed in runs if speed.rank_figures]
        same = [
            (one, speed)
            for one, speed in distributed
            if speed.processes == distributed[0][1].processes
        ]
        if same:
            found[name] = same
    return found


def _own_work(runtime: RuntimeSettings, speed: Speed) -> tuple[float, ...]:
    """Return each rank's milliseconds of work in which it waits for no other rank; empty if that is unknown."""
    phases = [
        speed.rank_figures[figure]
        for one in OWN_WORK
        if (figure := PHASE_FIGURE.format(one)) in speed.rank_figures
    ]
    return tuple(map(sum, zip(*phases, strict=True))) if runtime.sharding == "ddp" else ()


def _spread(figure: str, values: Sequence[float]) -> RankSpread:
    least, most = min(values), max(values)
    return RankSpread(figure, least, values.index(least), median(values), most, values.index(most))
