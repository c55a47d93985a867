"""Why a caption has its labels."""

import pyarrow as pa

from bench.labels.rule import Rule
from bench.tables import Table


def explained(rule: Rule, caption: str) -> Table:
    """Return the labels of a caption, with what they mean."""
    ids, _ = rule.label(pa.array([caption], pa.string()))
    rows = [{"label": rule.keys[id_], "name": rule.title(id_), "gloss": rule.gloss(id_)} for id_ in ids.tolist()]
    return Table(f"Labels by the rule {rule.name}", rows)
