"""Formatting of values with their unit."""

DURATIONS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))
SIZES = ((2.0**30, "GiB"), (2.0**20, "MiB"), (2.0**10, "KiB"), (1.0, "B"))
LARGE: tuple[tuple[float, str], ...] = ((1e12, "T"), (1e9, "G"), (1e6, "M"))


def duration(seconds: float) -> str:
    """Format seconds in a suitable unit with three digits."""
    size, unit = next(((size, unit) for size, unit in DURATIONS if seconds >= size), DURATIONS[-1])
    return f"{seconds / size:.3g} {unit}"


def unit_of(value: float, unit: str) -> float:
    """Return the size of the unit in which `quantity` formats a value."""
    sizes = {"s": DURATIONS, "B": SIZES, "FLOP": LARGE}.get(unit, ())
    return next((size for size, _ in sizes if value >= size), sizes[-1][0] if sizes else 1.0)


def quantity(value: float, unit: str) -> str:
    """Format a value in a suitable unit, rounded; integers without a unit with every digit."""
    if unit == "s":
        return duration(value)
    if unit == "B":
        size, name = next(((size, name) for size, name in SIZES if value >= size), SIZES[-1])
        return f"{value / size:,.4g} {name}"
    if unit == "FLOP":
        size, letter = next(((size, letter) for size, letter in LARGE if value >= size), (1.0, ""))
        return f"{value / size:.5g} {letter}FLOP"
    number = f"{value:,.0f}" if value.is_integer() else f"{value:.6g}"
    return f"{number} {unit}".strip()


def exactly(value: float, unit: str) -> str:
    """Format a value with every digit."""
    return f"{value:,.17g} {unit}".strip()
