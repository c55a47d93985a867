"""Figures as text, one format per kind of figure."""

from collections.abc import Callable

UNMEASURED = "\N{EN DASH}"
NBSP = "\N{NO-BREAK SPACE}"
MINUS = "\N{MINUS SIGN}"
GIB, MIB = 2**30, 2**20


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


def accuracy(share: float) -> str:
    """Write an accuracy without the leading zero, as tables do: .531."""
    return f"{share:.3f}".removeprefix("0") if share >= 0 else MINUS + accuracy(-share)


def gain(difference: float) -> str:
    """Write a difference of accuracies with its sign."""
    return f"+{accuracy(difference)}" if difference >= 0 else accuracy(difference)


def span(low: float, high: float, write: Callable[[float], str]) -> str:
    """Write the ends of an interval."""
    return f"{write(low)} to {write(high)}"


def p_value(p: float) -> str:
    """Write a p value with three decimals."""
    return "< .001" if p < 0.001 else f"{p:.3f}".removeprefix("0")  # noqa: PLR2004


def memory(size: int, unit: int) -> str:
    """Write bytes in `unit`, GIB or MIB."""
    return f"{size / unit:,.2f}" if unit == GIB else f"{size / unit:,.0f}"


def times(number: int, thing: str) -> str:
    """Write a number with its noun: 1 run, 6 runs."""
    return f"{number:,} {thing}" if number == 1 else f"{number:,} {thing}s"


def listed(parts: list[str]) -> str:
    """Join words: a, b and c."""
    return " and ".join(filter(None, [", ".join(parts[:-1]), *parts[-1:]]))
