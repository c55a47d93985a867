"""What was labelled, as tables."""

from textwrap import shorten

import numpy as np

from bench.data.vocabulary import Vocabulary
from bench.labels.labeller import MENDED, Tally
from bench.tables import Table

TOP = 10
GLOSS = 60  # characters


def summary_tables(total: Tally, captions_per_second: float | None, vocabulary: Vocabulary) -> list[Table]:
    """Say how many captions there are, how many have labels, which labels, and what was wrong with rows."""
    row = {
        "captions": total.captions,
        "empty share": total.empty / total.captions if total.captions else None,
        "labels per caption": total.labels / total.captions if total.captions else None,
        "captions/s": captions_per_second and round(captions_per_second),
    }
    top = np.argsort(-total.counts, kind="stable")[:TOP].tolist()
    labels = [
        {
            "label": label.key,
            "name": label.name,
            "count": int(total.counts[column]),
            "gloss": shorten(label.gloss, GLOSS, placeholder=" …"),
        }
        for column, label in ((column, vocabulary.labels[column]) for column in top)
        if total.counts[column]
    ]
    flaws = [
        {"what": flaw, "rows": rows, "labelled": "with what is wrong replaced" if flaw in MENDED else "no: empty"}
        for flaw, rows in sorted(total.flaws.items())
    ]
    return [
        Table("Captions", [row], "captions/s: of those labelled now."),
        Table("Most frequent labels", labels, "Of the captions labelled now."),
        Table("Rows that are not as they should be", flaws),
    ]
