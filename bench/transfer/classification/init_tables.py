"""Heads that begin from what a tower was pre-trained with, as tables. No torch here."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from bench.console.tables import Table
from bench.record import Record, Score, Transfer
from bench.statistics import mean_interval
from bench.transfer.classification.shares import left_out

PROTOCOL = "transfer-init"
RANDOM, COPIED, NAMES = "random head", "copied rows", "class names"  # heads
Shares = Mapping[int, float]  # of right answers, by draw
NOTE = (
    "Share of the test pictures told right by a head on the frozen tower; the mean of the draws of labelled pictures, "
    "the same for every head, with 95 % over these draws alone. Rows of a plus: by how much more than the random head "
    "on the same draw.\nNo labels: the head as it begins. A draw's rate is chosen on validation pictures of its own, "
    "no more than are fitted; all labels are one draw. One training of the tower says nothing of other trainings."
)


class NearestLabel(NamedTuple):
    """The label that is nearest in WordNet to a synset of a task's class."""

    task: str
    of: str  # the class
    way: tuple[str, ...]  # from the class's synset over what both share to the label
    similarity: float


def without_init(records: Iterable[Record]) -> list[Record]:
    """Return the records that are not of this protocol."""
    return [record for record in records if not _is_init(record.measured)]


def init_tables(records: Iterable[Record]) -> list[Table]:
    """Show which label each class took, and every head's accuracy against the number of labels."""
    transfers = [record.measured for record in records if isinstance(record.measured, Transfer)]
    transfers = [transfer for transfer in transfers if _is_init(transfer)]
    tasks = dict.fromkeys(score.task for transfer in transfers for score in transfer.scores)
    return [_labels_table(transfers), *(_heads_table(task, transfers) for task in tasks)]


def nearest_labels(transfers: Iterable[Transfer]) -> list[NearestLabel]:
    """Return each class's nearest labels, one a synset, as the records tell them; none for a class without a synset."""
    told = dict.fromkeys(
        (metric.task, metric.name, metric.value)
        for transfer in transfers
        for metric in transfer.metrics
        if metric.protocol == PROTOCOL
    )
    parts = ((task, name.rpartition(": "), similarity) for task, name, similarity in told)
    return [NearestLabel(task, of, tuple(way.split(" > ")), similarity) for task, (of, _, way), similarity in parts]


def _is_init(measured: object) -> bool:
    return isinstance(measured, Transfer) and any(one.protocol.startswith(PROTOCOL) for one in measured.scores)


def _labels_table(transfers: Sequence[Transfer]) -> Table:
    rows = [
        {"task": one.task, "class": one.of, "synset": one.way[0], "label": one.way[-1]}
        | {"similarity": one.similarity, "way": " > ".join(one.way)}
        for one in nearest_labels(transfers)
    ]
    return Table(
        "The label whose row each class takes",
        rows,
        "similarity: 1 / (1 + steps of the way in WordNet's hierarchy). A class of several synsets takes the mean row.",
    )


def _heads_table(task: str, transfers: Sequence[Transfer]) -> Table:
    rows = []
    for transfer in transfers:
        heads: dict[str, dict[str, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))
        for score in transfer.scores:
            if score.task == task:
                share = score.correct.count("1") / len(score.correct)
                heads[score.protocol.removeprefix(f"{PROTOCOL}, ")][_point(score)][score.draw] = share
        first = {"features": transfer.subject, "images": transfer.images}
        for head, points in heads.items():
            rows.append(first | {"head": head} | {point: _mean(shares.values()) for point, shares in points.items()})
            if head != RANDOM:
                rows.append(first | {"head": f"+ {head}"} | _gains(points, heads[RANDOM]))
    absent = left_out(score for transfer in transfers for score in transfer.scores if score.task == task)
    return Table(f"{PROTOCOL} on {task}", rows, f"{NOTE}{absent}")


def _gains(points: Mapping[str, Shares], random: Mapping[str, Shares]) -> dict[str, Any]:
    return {point: _mean(shares[draw] - random[point][draw] for draw in shares) for point, shares in points.items()}


def _point(score: Score) -> str:
    if score.per_class is None:
        return f"{score.label_share:.0%}, {score.num_train:,} images"
    return f"{score.per_class} a class" if score.per_class else "no labels"


def _mean(values: Iterable[float]) -> tuple[float, float | None, float | None]:
    draws = [*values]
    if len(draws) == 1:
        return draws[0], None, None
    found = mean_interval(draws)
    return found.value, found.low, found.high
