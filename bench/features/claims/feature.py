"""What claims of papers add: a verb, and a line in the answer of the page."""

from collections.abc import Sequence

from bench.extensions import Extension
from bench.sections import Block, PageContext, Section


def _build_line(page: PageContext) -> Sequence[Block] | None:
    from bench.features.claims.page import headline_blocks  # which imports what draws charts

    return headline_blocks(page)


EXTENSION = Extension(
    verbs={"claim": "bench.features.claims.verb:Claim"},
    sections=[Section("claim", "As published", "As published", _build_line, place="answer")],
)
