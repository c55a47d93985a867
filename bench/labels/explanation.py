"""Table that explains a caption's labels, token by token: `python -m bench label --explain "A dog"`."""

from textwrap import shorten

import pyarrow as pa

from bench.console.tables import Table
from bench.labels.corenet import CorenetRule
from bench.labels.rules import LabelRule

GLOSS = 90  # characters


def explanation_table(rule: LabelRule, caption: str) -> Table:
    """Return a table of the tokens with their labels; of the labels alone if the rule cannot explain them."""
    if isinstance(rule, CorenetRule):
        rows = [
            {
                "token": one.token,
                "lemma": one.lemma,
                "label": one.key,
                "name": one.title,
                "gloss, or why there is no label": shorten(one.dropped or one.gloss or "", GLOSS, placeholder=" …"),
            }
            for one in rule.explain(caption)
        ]
    else:
        ids, _ = rule.label(pa.array([caption], pa.string()))
        rows = [{"label": rule.keys[id_], "name": rule.title(id_), "gloss": rule.gloss(id_)} for id_ in ids.tolist()]
    return Table(f"Labels by the rule {rule.name}", rows)
