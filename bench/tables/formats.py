"""Figures as text, one format per kind of figure. No torch here."""

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

Number = int | float
UNMEASURED = "\N{EN DASH}"
NBSP = "\N{NO-BREAK SPACE}"
MINUS = "\N{MINUS SIGN}"
GIB, MIB = 2**30, 2**20
INTERVAL = f"95{NBSP}%"
# Sizes and names of units, from large to small, and the format of a number.
UNITS = {
    "s": (((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns")), ".3g"),
    "B": (((2.0**30, "GiB"), (2.0**20, "MiB"), (2.0**10, "KiB"), (1.0, "B")), ",.4g"),
    "FLOP": (((1e12, "TFLOP"), (1e9, "GFLOP"), (1e6, "MFLOP"), (1.0, "FLOP")), ".5g"),
}


@runtime_checkable
class HasEstimate(Protocol):
    """A figure with the ends of its interval, which are None where it has none."""

    @property
    def value(self) -> Number:
        """The figure."""

    @property
    def low(self) -> Number | None:
        """The lower end."""

    @property
    def high(self) -> Number | None:
        """The upper end."""


def format_rate(value: Number) -> str:
    """Write a speed: without decimals from 100 on, with three digits below."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:#.3g}".rstrip(".")  # noqa: PLR2004


def format_count(value: Number) -> str:
    """Write a whole number."""
    return f"{value:,.0f}"


def format_short(value: Number) -> str:
    """Write a large number in a chart: 80k, 1.2M."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"


def format_ratio(value: Number) -> str:
    """Write a ratio with two decimals."""
    return f"{value:.2f}"


def format_seconds(value: Number) -> str:
    """Write a duration in s, min, h or days."""
    if value >= 2 * 86_400:
        return f"{value / 86_400:,.1f}{NBSP}days"
    if value >= 2 * 3600:
        return f"{value / 3600:,.1f}{NBSP}h"
    if value >= 10 * 60:
        return f"{value / 60:,.1f}{NBSP}min"
    return f"{value:,.0f}{NBSP}s" if value >= 10 else f"{value:.2g}{NBSP}s"  # noqa: PLR2004


def format_percent(share: Number, decimals: int = 1) -> str:
    """Write a share in percent."""
    return f"{100 * share:.{decimals}f}{NBSP}%"


def format_accuracy(share: Number) -> str:
    """Write an accuracy with three decimals."""
    return f"{share:.3f}" if share >= 0 else MINUS + format_accuracy(-share)


def format_accuracy_gain(difference: Number) -> str:
    """Write a difference of accuracies with its sign."""
    return f"+{format_accuracy(difference)}" if difference >= 0 else format_accuracy(difference)


def format_interval(
    figure: HasEstimate | None, write: Callable[[float], str], prefix: str = ""
) -> str:
    """Write the ends of an interval after `prefix`; empty where there is no interval."""
    if figure is None or figure.low is None or figure.high is None:
        return ""
    return f"{prefix}{write(figure.low)} to {write(figure.high)}"


def format_bracketed_interval(figure: HasEstimate, write: Callable[[float], str]) -> str:
    """Write the ends of an interval in brackets, behind a figure; empty where there is no interval."""
    ends = format_interval(figure, write, " (")
    return f"{ends})" if ends else ""


def format_p_value(p: Number) -> str:
    """Write a p value with three decimals."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"  # noqa: PLR2004


def format_quantity(value: Number, unit: str) -> str:
    """Format a value in a suitable unit, rounded; integers without a unit with every digit."""
    if unit not in UNITS:
        number = f"{value:,.0f}" if float(value).is_integer() else f"{value:.6g}"
        return f"{number} {unit}".strip()
    sizes, digits = UNITS[unit]
    fitting = [(size, name) for size, name in sizes if value >= size] or [sizes[-1]]
    size, name = fitting[0]
    return f"{value / size:{digits}} {name}"


def pluralize(number: int, singular: str, plural: str = "") -> str:
    """Write a number with its noun: 1 run, 6 runs."""
    return f"{number:,} {singular}" if number == 1 else f"{number:,} {plural or f'{singular}s'}"


def join_words(parts: Sequence[str]) -> str:
    """Join words: a, b and c."""
    return " and ".join(filter(None, [", ".join(parts[:-1]), *parts[-1:]]))
