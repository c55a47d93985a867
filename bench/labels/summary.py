"""What was labelled, as tables."""

from collections.abc import Iterable
from itertools import islice
from textwrap import shorten

import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from bench.console.tables import Table
from bench.labels.labeller import MENDED, Tally
from bench.labels.vocabulary import Label, Vocabulary

TOP = 10
GLOSS = 60  # characters


def summary_tables(total: Tally, captions_per_second: float, labels: Iterable[Label]) -> list[Table]:
    """Say how many captions there are, how many have labels, which labels, and what was wrong with rows."""
    row = {
        "captions": total.captions,
        "empty share": total.empty / total.captions if total.captions else None,
        "labels per caption": total.labels / total.captions if total.captions else None,
        "captions/s": round(captions_per_second) or None,
    }
    flaws = [
        {"what": flaw, "rows": rows, "labelled": "with what is wrong replaced" if flaw in MENDED else "no: empty"}
        for flaw, rows in sorted(total.flaws.items())
    ]
    return [
        Table("Captions", [row], "captions/s: of those read now."),
        label_table(labels),
        Table("Rows that are not as they should be", flaws),
    ]


def label_table(labels: Iterable[Label]) -> Table:
    """List the first few labels."""
    rows = [
        {
            "label": label.key,
            "name": label.name,
            "count": label.count,
            "gloss": shorten(label.gloss, GLOSS, placeholder=" …"),
        }
        for label in islice(labels, TOP)
    ]
    return Table("Most frequent labels", rows, "Of the captions read now.")


def most_frequent(vocabulary: Vocabulary, counts: npt.NDArray[np.int64]) -> list[Label]:
    """Return labels that occur, by falling count; `counts` holds one of each column."""
    order = np.argsort(-counts, kind="stable").tolist()
    return [replace(vocabulary.labels[column], count=int(counts[column])) for column in order if counts[column]]
