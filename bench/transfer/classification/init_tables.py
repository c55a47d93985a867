"""Tables of heads that are initialised from pre-training. No torch here."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple, TypeGuard

from bench.console.tables import Table
from bench.record import Record, Transfer
from bench.transfer.classification.label_subsets import describe_omitted_shares
from bench.transfer.score_tables import accuracy_of, mean_cell, point_name

PROTOCOL = "transfer-init"
RANDOM_HEAD, COPIED_ROWS, CLASS_NAMES = "random head", "copied rows", "class names"  # heads
NOTE = (
    "Accuracy on the test images of a head on the frozen tower: the mean over draws of labelled images, the same for "
    "every head, with a 95 % interval over these draws alone. A row with a plus: the difference from the random head "
    "on the same draw.\nNo labels: the initial head. A draw's rate is chosen on validation images of its own, no more "
    "than are fitted; all labels are one draw. One training of the tower is no evidence on other trainings."
)


class NearestLabel(NamedTuple):
    """The label nearest in WordNet to a synset of a task's class."""

    task: str
    of: str  # the class
    path: tuple[str, ...]  # from the class's synset over the common ancestor to the label
    similarity: float


def drop_init_records(records: Iterable[Record]) -> list[Record]:
    """Return the records of other protocols."""
    return [record for record in records if not _is_init(record.measured)]


def _is_init(measured: object) -> TypeGuard[Transfer]:
    return isinstance(measured, Transfer) and any(score.protocol.startswith(PROTOCOL) for score in measured.scores)


def init_tables(records: Iterable[Record]) -> list[Table]:
    """Show the label that each class took, and every head's accuracy against the number of labels."""
    transfers = [record.measured for record in records if _is_init(record.measured)]
    rows = [
        {"task": one.task, "class": one.of, "synset": one.path[0], "label": one.path[-1]}
        | {"similarity": one.similarity, "way": " > ".join(one.path)}
        for one in nearest_labels(transfers)
    ]
    note = (
        "similarity: 1 / (1 + steps of the way in WordNet's hierarchy). A class of several synsets takes the mean row."
    )
    tasks = dict.fromkeys(score.task for transfer in transfers for score in transfer.scores)
    labels = Table("The label whose row each class takes", rows, note)
    return [labels, *(_heads_table(task, transfers) for task in tasks)]


def nearest_labels(transfers: Iterable[Transfer]) -> list[NearestLabel]:
    """Return the recorded nearest labels of each class, one per synset; none for a class without a synset."""
    found = dict.fromkeys(
        (metric.task, metric.name, metric.value)
        for transfer in transfers
        for metric in transfer.metrics
        if metric.protocol == PROTOCOL
    )
    parts = ((task, name.rpartition(": "), similarity) for task, name, similarity in found)
    return [NearestLabel(task, of, tuple(way.split(" > ")), similarity) for task, (of, _, way), similarity in parts]


def _heads_table(task: str, transfers: Sequence[Transfer]) -> Table:
    rows = []
    for transfer in transfers:
        heads: dict[str, dict[str, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))
        for score in transfer.scores:
            if score.task == task:
                heads[score.protocol.removeprefix(f"{PROTOCOL}, ")][point_name(score)][score.draw] = accuracy_of(score)
        first = {"features": transfer.subject, "images": transfer.images}
        for head, points in heads.items():
            rows.append(
                first | {"head": head} | {point: mean_cell([*draws.values()]) for point, draws in points.items()}
            )
            if head != RANDOM_HEAD:
                random = heads[RANDOM_HEAD]
                gains = {
                    point: mean_cell([accuracy - random[point][draw] for draw, accuracy in draws.items()])
                    for point, draws in points.items()
                }
                rows.append(first | {"head": f"+ {head}"} | gains)
    scores = [score for transfer in transfers for score in transfer.scores if score.task == task]
    return Table(f"{PROTOCOL} on {task}", rows, f"{NOTE}{describe_omitted_shares(scores)}")
