"""Why a caption has its labels, as a table."""

from collections.abc import Sequence
from textwrap import shorten
from typing import Any, Protocol, runtime_checkable

import pyarrow as pa

from bench.console.tables import Table
from bench.labels.rule import Rule

GLOSS = 90  # characters


@runtime_checkable
class Explains(Protocol):
    """A rule that can say what became of each token of a caption."""

    def explain(self, caption: str) -> Sequence[Any]:
        """Return tokens with `token`, `lemma` and either `key`, `title` and `gloss` or why it was `dropped`."""
        ...


def explanation(rule: Rule, caption: str) -> Table:
    """Return what became of each token; of a rule that cannot say it, the labels."""
    if isinstance(rule, Explains):
        rows = [
            {
                "token": one.token,
                "lemma": one.lemma,
                "label": one.key,
                "name": one.title,
                "gloss, or why there is no label": shorten(one.dropped or one.gloss, GLOSS, placeholder=" …"),
            }
            for one in rule.explain(caption)
        ]
    else:
        ids, _ = rule.label(pa.array([caption], pa.string()))
        rows = [{"label": rule.keys[id_], "name": rule.title(id_), "gloss": rule.gloss(id_)} for id_ in ids.tolist()]
    return Table(f"Labels by the rule {rule.name}", rows)
