"""Figures as text, one format per kind of figure; titles of methods, and the glossary."""

from collections.abc import Callable, Sequence

from bench.config import Experiment
from bench.explain.decomposition import LogRatio
from bench.method import find_method
from bench.statistics import Estimate, Interval, Ratio

UNMEASURED = "\N{EN DASH}"
NBSP = "\N{NO-BREAK SPACE}"
MINUS = "\N{MINUS SIGN}"
GIB, MIB = 2**30, 2**20
UNIT_NAMES = {GIB: "GiB", MIB: "MiB"}
INTERVAL = f"95{NBSP}%"
VARIANTS = {"flip": "FLIP", "clipa": "CLIPA"}  # CLIP with other settings, by the first word of the experiment's name

GLOSSARY: dict[str, str] = {
    "method": "a way to pre-train the tower: the model around it, its targets, and its loss",
    "tower": "the image encoder, equal for all methods of a comparison and scored without projection or head",
    "text tower": "the encoder of captions; only contrastive methods have one",
    "experiment": "all settings that can change a figure, under one name",
    "run": "one process that runs one experiment; the unit of repetition of speeds",
    "window": "one timed sample of a run, several steps long; the figure of a run is the median of its windows",
    "round": "one run of every experiment, each in a fresh process, in rotating order; on a CPU interleaved by window",
    "comparison": "runs started together, of experiments that differ only in named fields",
    "record": "the document of a run; all figures of this page come from records",
    "seed": "the state of the random generator of a training; the unit of repetition of accuracies",
    "budget": "the quantity that is equal for compared towers: images seen, or seconds on the device",
    "device seconds": "images seen divided by the experiment's measured images per second",
    "random-init baseline": "the same tower with random weights, without any training",
    "linear probe": "logistic regression on the tower's frozen features",
    "k-NN": "a vote of the nearest training images in the tower's frozen features",
    "retrieval": "R@1: how often a gallery's nearest image, in the tower's frozen features, is of the query's class",
    "few-shot": "a linear probe on few labelled images per class, over several draws of them",
    "label fractions": "a linear probe on a share of the labelled images, over several draws of them",
    "copied rows": "a new head initialised with the classifier's rows of the labels nearest to its classes",
    "Pareto front": "the towers that no other tower exceeds in accuracy at an equal or lower cost",
    "MFU": "model FLOPs utilisation: 3 x forward FLOPs per image x images per second, over the device's peak",
    "HFU": "hardware FLOPs utilisation: the same with all matrix products of the step, recomputed ones included",
    "interval": "95 %: Student's t for runs, seeds and draws, Wilson's for a share of test images",
}

VERDICTS: dict[str, str] = {
    "faster": "▲\N{NO-BREAK SPACE}faster",
    "slower": "▼\N{NO-BREAK SPACE}slower",
    "no difference": "=\N{NO-BREAK SPACE}no\N{NO-BREAK SPACE}difference",
    "inconclusive": "?\N{NO-BREAK SPACE}inconclusive",
    "disturbed": "?\N{NO-BREAK SPACE}inconclusive: disturbed",
}


def format_rate(value: float) -> str:
    """Write a speed: without decimals from 100 on, with three digits below."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:#.3g}".rstrip(".")  # noqa: PLR2004


def count(value: float) -> str:
    """Write a whole number."""
    return f"{value:,.0f}"


def format_short(value: float) -> str:
    """Write a large number in a chart: 80k, 1.2M."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"


def ratio(value: float) -> str:
    """Write a ratio with two decimals."""
    return f"{value:.2f}"


def format_seconds(value: float) -> str:
    """Write a duration in s, min, h or days."""
    for least, size, unit in ((2 * 86_400, 86_400, "days"), (2 * 3600, 3600, "h"), (600, 60, "min")):
        if value >= least:
            return f"{value / size:,.1f}{NBSP}{unit}"
    return f"{value:,.0f}{NBSP}s" if value >= 10 else f"{value:.2g}{NBSP}s"  # noqa: PLR2004


def percent(share: float, decimals: int = 1) -> str:
    """Write a share in percent."""
    return f"{100 * share:.{decimals}f}{NBSP}%"


def write_accuracy(share: float) -> str:
    """Write an accuracy with three decimals."""
    return f"{share:.3f}" if share >= 0 else MINUS + write_accuracy(-share)


def write_gain(difference: float) -> str:
    """Write a difference of accuracies with its sign."""
    return f"+{write_accuracy(difference)}" if difference >= 0 else write_accuracy(difference)


def format_interval(
    found: Interval | Estimate | Ratio | LogRatio | None, write: Callable[[float], str], prefix: str = ""
) -> str:
    """Write the ends of an interval after `prefix`; empty where there is no interval."""
    if found is None or found.low is None or found.high is None:
        return ""
    return f"{prefix}{write(found.low)} to {write(found.high)}"


def bracket_interval(found: Estimate, write: Callable[[float], str]) -> str:
    """Write the ends of an interval in brackets, behind a figure; empty where there is no interval."""
    return f"{ends})" if (ends := format_interval(found, write, " (")) else ""


def p_value(p: float) -> str:
    """Write a p value with three decimals."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"  # noqa: PLR2004


def memory_unit(largest: int) -> int:
    """Return the unit, GIB or MIB, in which a table or chart shows up to `largest` bytes."""
    return GIB if largest >= GIB else MIB


def format_memory(size: float, unit: int) -> str:
    """Write bytes in `unit`, GIB or MIB."""
    return f"{size / unit:,.2f}" if unit == GIB else f"{size / unit:,.0f}"


def pluralize(number: int, singular: str, plural: str = "") -> str:
    """Write a number with its noun: 1 run, 6 runs."""
    return f"{number:,} {singular}" if number == 1 else f"{number:,} {plural or f'{singular}s'}"


def join_words(parts: Sequence[str]) -> str:
    """Join words: a, b and c."""
    return " and ".join(filter(None, [", ".join(parts[:-1]), *parts[-1:]]))


def method_title(experiment: Experiment) -> str:
    """Return the name of an experiment's method in its paper."""
    variant, method = VARIANTS.get(experiment.name.partition("-")[0]), find_method(experiment.method)
    return variant or (method.title if method is not None else experiment.method)
