"""What was asked of a part and what was found."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Bound:
    """One line of the table."""

    what: str
    asked: str
    found: str
    holds: bool
    wrong: tuple[str, ...] = ()  # what was found amiss, one by one

    @property
    def row(self) -> dict[str, str]:
        """The line as the table shows it."""
        return {"what": self.what, "asked": self.asked, "found": self.found, "holds": "yes" if self.holds else "no"}


def none_of(what: str, tried: int, wrong: Sequence[str], asked: str = "0") -> Bound:
    """Ask that nothing was amiss in so many tries."""
    return Bound(what, asked, f"{len(wrong)} of {tried:,}", not wrong, tuple(wrong))


def at_most(what: str, most: float, found: float, unit: str, which: str = "") -> Bound:
    """Ask for a figure that is not above another."""
    told = f"{found:,.1f} {unit}" + (f" ({which})" if which else "")
    return Bound(what, f"at most {most:,g} {unit}", told, found <= most)


def tries(full: int, share: float) -> int:
    """Return how many tries a share of the full number is, one at least."""
    return max(1, round(full * share))
