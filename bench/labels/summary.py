"""Tables that summarise a labelling."""

from collections.abc import Iterable
from itertools import islice
from textwrap import shorten

import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from bench.console.tables import Table
from bench.labels.labeller import MENDED, Tally
from bench.labels.vocabulary import Vocabulary, VocabularyLabel

TOP = 10
GLOSS = 60  # characters


def summary_tables(total: Tally, captions_per_second: float, labels: Iterable[VocabularyLabel]) -> list[Table]:
    """Return tables of the captions, the most frequent labels and the flawed rows."""
    row = {
        "captions": total.captions,
        "empty share": total.empty / total.captions if total.captions else None,
        "labels per caption": total.labels / total.captions if total.captions else None,
        "captions/s": round(captions_per_second) or None,
    }
    flaws = [
        {"problem": flaw, "rows": rows, "labelled": "after a repair" if flaw in MENDED else "no"}
        for flaw, rows in sorted(total.flaws.items())
    ]
    return [
        Table("Captions", [row], "captions/s: of the captions read in this run."),
        label_table(labels),
        Table("Rows with problems", flaws),
    ]


def label_table(labels: Iterable[VocabularyLabel]) -> Table:
    rows = [
        {
            "label": label.key,
            "name": label.name,
            "count": label.count,
            "gloss": shorten(label.gloss, GLOSS, placeholder=" …"),
        }
        for label in islice(labels, TOP)
    ]
    return Table("Most frequent labels", rows, "Of the captions read in this run.")


def most_frequent(vocabulary: Vocabulary, counts: npt.NDArray[np.int64]) -> list[VocabularyLabel]:
    """Return the labels that occur, by descending count; `counts` has one entry per column."""
    order = np.argsort(-counts, kind="stable").tolist()
    return [replace(vocabulary.labels[column], count=int(counts[column])) for column in order if counts[column]]
