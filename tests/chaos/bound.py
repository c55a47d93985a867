"""What was asked of a part and what was found."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the table."""

    what: str
    expected: str
    actual: str
    is_met: bool
    failures: tuple[str, ...] = ()  # what was found amiss, one by one

    @property
    def row(self) -> dict[str, str]:
        """The line as the table shows it."""
        return {
            "what": self.what,
            "asked": self.expected,
            "found": self.actual,
            "holds": "yes" if self.is_met else "no",
        }


def check_none(what: str, tried: int, failures: Sequence[str], expected: str = "0") -> Check:
    """Ask that nothing was amiss in so many tries."""
    return Check(what, expected, f"{len(failures)} of {tried:,}", not failures, tuple(failures))


def check_at_most(what: str, most: float, actual: float, unit: str, which: str = "") -> Check:
    """Ask for a figure that is not above another."""
    text = f"{actual:,.1f} {unit}" + (f" ({which})" if which else "")
    return Check(what, f"at most {most:,g} {unit}", text, actual <= most)


def num_tries(full: int, fraction: float) -> int:
    """Return how many tries a share of the full number is, one at least."""
    return max(1, round(full * fraction))
