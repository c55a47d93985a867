"""A part of the verb `doctor`: what its checks find, as a table."""

from collections.abc import Iterable
from dataclasses import dataclass

from bench.console.tables import Table

FINDING_OK, DISTURBS, MISSING, DIFFERS, UNKNOWN = "ok", "disturbs", "missing", "differs", "not known"


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check."""

    what: str
    found: str
    verdict: str = FINDING_OK
    advice: str = ""


def finding_table(title: str, findings: Iterable[Finding]) -> Table:
    """Return the table of findings."""
    return Table(
        title, [{"what": one.what, "": one.verdict, "found": one.found, "advice": one.advice} for one in findings]
    )


def judge(what: str, found: str, advice: str, *, is_bad: bool, verdict: str = DISTURBS) -> Finding:
    """Return a finding that is ok, or has this verdict and an advice."""
    return Finding(what, found, verdict, advice) if is_bad else Finding(what, found)
