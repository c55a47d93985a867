"""Shares of the labels that accuracy is shown against. No torch here."""

from collections.abc import Iterable, Sequence

from bench.record import Score

SHARES = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0)


def taken(size: int, share: float) -> int:
    """Return how many images a share of a class is: one at least, where there is one."""
    return min(size, max(1, round(size * share)))


def distinct_shares(sizes: Sequence[int]) -> list[float]:
    """Return the shares, without those that take the same images as a smaller one, or as all; `sizes` are classes'."""
    first = {tuple(sizes): SHARES[-1]}
    for share in SHARES:
        first.setdefault(tuple(taken(size, share) for size in sizes), share)
    return sorted(first.values())


def left_out(scores: Iterable[Score]) -> str:
    """Say in a line of its own which shares have no score, where others have, and why."""
    scored = {score.label_share for score in scores} - {None}
    absent = ", ".join(f"{share:.0%}" for share in SHARES if share not in scored)
    told = f"\n{absent}: the same images as another share, for one of each class is the least."
    return told if scored and absent else ""


def too_few(scores: Iterable[Score]) -> str:
    """Say in a line of its own from how many images a class on some classes have fewer than that."""
    short = {one.per_class for one in scores if one.per_class and one.num_train < one.per_class * one.num_classes}
    numbers = ", ".join(map(str, sorted(short, key=int)))
    return f"\n{numbers} a class: of classes that have fewer images, all of theirs." if short else ""
