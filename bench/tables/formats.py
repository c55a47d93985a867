"""Figures as text, one format per kind of figure. No torch here."""

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

Number = int | float
FormatNumber = Callable[[float], str]
EMPTY_CELL_TEXT = "\N{EN DASH}"
NBSP = "\N{NO-BREAK SPACE}"
MINUS = "\N{MINUS SIGN}"
GB = 1e9
GIB = 2**30
MIB = 2**20
CONFIDENCE_TEXT = f"95{NBSP}%"  # the confidence level of every interval
# Units of a quantity by their sizes, from large to small.
UNITS = {
    "s": {1.0: "s", 1e-3: "ms", 1e-6: "µs", 1e-9: "ns"},
    "B": {2.0**30: "GiB", 2.0**20: "MiB", 2.0**10: "KiB", 1.0: "B"},
    "FLOP": {1e12: "TFLOP", 1e9: "GFLOP", 1e6: "MFLOP", 1.0: "FLOP"},
}
# Unit of a duration, its seconds, and the least number of units that is written with it.
DURATION_UNITS = (("days", 86_400, 2), ("h", 3600, 2), ("min", 60, 10))
NUMBER_FORMATS = {"s": ".3g", "B": ",.4g", "FLOP": ".5g"}  # by quantity


@runtime_checkable  # tests check the types of arguments
class HasInterval(Protocol):
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
    """Write a speed without decimals from 100 on, with three significant digits below."""
    if abs(value) >= 100:  # noqa: PLR2004
        return f"{value:,.0f}"
    return f"{value:#.3g}".rstrip(".")


def format_count(value: Number) -> str:
    """Write a number without decimals, with commas."""
    return f"{value:,.0f}"


def format_abbreviated_count(value: Number) -> str:
    """Write a number with three significant digits and the letter k, M or G: 80k, 1.2M."""
    letters = {1e9: "G", 1e6: "M", 1e3: "k"}
    for size, letter in letters.items():
        if abs(value) >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"


def format_ratio(value: Number) -> str:
    """Write a ratio with two decimals."""
    return f"{value:.2f}"


def format_duration(seconds: Number) -> str:
    """Write seconds as a number of s, min, h or days."""
    for unit, size, least in DURATION_UNITS:
        if seconds >= least * size:
            return f"{seconds / size:,.1f}{NBSP}{unit}"
    if seconds >= 10:  # noqa: PLR2004
        return f"{seconds:,.0f}{NBSP}s"
    return f"{seconds:.2g}{NBSP}s"


def format_percent(share: Number, decimals: int = 1) -> str:
    """Write a share in percent."""
    return f"{100 * share:.{decimals}f}{NBSP}%"


def format_accuracy(share: Number) -> str:
    """Write an accuracy with three decimals."""
    sign = "" if share >= 0 else MINUS
    return f"{sign}{abs(share):.3f}"


def format_signed_accuracy_difference(difference: Number) -> str:
    """Write a difference of accuracies with its sign."""
    sign = "+" if difference >= 0 else ""
    return sign + format_accuracy(difference)


def format_interval(figure: HasInterval | None, format_value: FormatNumber) -> str:
    """Write the ends of an interval; empty where there is no interval."""
    if figure is None or figure.low is None or figure.high is None:
        return ""
    return f"{format_value(figure.low)} to {format_value(figure.high)}"


def format_p_value(p: Number) -> str:
    """Write a p value with three decimals; "< 0.001" below."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"  # noqa: PLR2004


def format_quantity(value: Number, unit: str) -> str:
    """Write a value in s, B or FLOP with a suitable prefix, rounded; in any other `unit` as it is."""
    if unit not in UNITS:
        number = f"{value:,.0f}" if float(value).is_integer() else f"{value:.6g}"
        return f"{number} {unit}".strip()
    sizes = UNITS[unit]
    fitting_sizes = [size for size in sizes if value >= size]
    size = max(fitting_sizes) if fitting_sizes else min(sizes)
    number = format(value / size, NUMBER_FORMATS[unit])
    return f"{number} {sizes[size]}"


def format_count_with_noun(number: int, singular: str) -> str:
    """Write a number with its noun: 1 run, 6 runs."""
    noun = singular if number == 1 else f"{singular}s"
    return f"{number:,} {noun}"


def join_with_and(parts: Sequence[str]) -> str:
    """Join texts: a, b and c."""
    if len(parts) < 2:  # noqa: PLR2004
        return "".join(parts)
    first_words = ", ".join(parts[:-1])
    return f"{first_words} and {parts[-1]}"
