"""Formatting of values with their unit."""

# Sizes and names of units, from large to small, and the format of a number.
UNITS = {
    "s": (((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns")), ".3g"),
    "B": (((2.0**30, "GiB"), (2.0**20, "MiB"), (2.0**10, "KiB"), (1.0, "B")), ",.4g"),
    "FLOP": (((1e12, "TFLOP"), (1e9, "GFLOP"), (1e6, "MFLOP"), (1.0, "FLOP")), ".5g"),
}


def format_duration(seconds: float) -> str:
    """Format seconds in a suitable unit with three digits."""
    return format_quantity(seconds, "s")


def unit_size(value: float, unit: str) -> float:
    """Return the size of the unit in which `format_quantity` formats a value."""
    sizes = UNITS[unit][0] if unit in UNITS else ((1.0, unit),)
    return next((size for size, _ in sizes if value >= size), sizes[-1][0])


def format_quantity(value: float, unit: str) -> str:
    """Format a value in a suitable unit, rounded; integers without a unit with every digit."""
    if unit in UNITS:
        (sizes, digits), size = UNITS[unit], unit_size(value, unit)
        return f"{value / size:{digits}} {dict(sizes)[size]}"
    number = f"{value:,.0f}" if value.is_integer() else f"{value:.6g}"
    return f"{number} {unit}".strip()


def format_exactly(value: float, unit: str) -> str:
    """Format a value with every digit."""
    return f"{value:,.17g} {unit}".strip()
