"""A part of the verb `doctor`: what its checks find, as a table."""

from collections.abc import Iterable
from dataclasses import dataclass

from bench.tables.tables import Table

FINDING_OK, DISTURBS, MISSING, DIFFERS, UNKNOWN = "ok", "disturbs", "missing", "differs", "not known"


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check."""

    check: str
    found: str
    verdict: str = FINDING_OK
    advice: str = ""


def finding_table(title: str, findings: Iterable[Finding]) -> Table:
    columns = ("check", "verdict", "found", "advice")
    return Table.of_figures(title, [{column: getattr(one, column) for column in columns} for one in findings])


def make_finding(check: str, found: str, advice: str, *, is_bad: bool, verdict: str = DISTURBS) -> Finding:
    """Return a finding that is ok, or has this verdict and advice."""
    return Finding(check, found, verdict, advice) if is_bad else Finding(check, found)
