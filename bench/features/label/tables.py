"""Tables that summarise a labelling, or explain a caption's labels token by token (`--explain`)."""

from collections.abc import Iterable
from functools import partial
from itertools import islice
from textwrap import shorten

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from msgspec.structs import replace

from bench.data.text_tables import UTF8_REMEDY
from bench.labels.label_rule import LabelRule
from bench.labels.labeller import NOT_UTF8, Tally
from bench.labels.synset_rules import CorenetRule
from bench.labels.vocabulary import Vocabulary, VocabularyLabel
from bench.tables.tables import Table

MAX_FREQUENT_LABELS = 10
CAPTIONS_NOTE = (
    "captions: one for each row of caption files and each sample of tar files, also of those that have no caption or "
    "no image; of other data, the captions of the samples that can be used.\n"
    "captions/s: of the captions read in this run."
)
GLOSS_CHARS = 60
EXPLAINED_GLOSS_CHARS = 90
_shorten = partial(shorten, placeholder=" …")


def explanation_table(rule: LabelRule, caption: str) -> Table:
    """Return a table of the tokens with their labels; of the labels alone if the rule cannot explain them."""
    if isinstance(rule, CorenetRule):
        rows = [
            {
                "token": token.token,
                "lemma": token.lemma,
                "label": token.key,
                "name": token.title,
                "gloss, or why there is no label": _shorten(
                    token.dropped or token.gloss or "", EXPLAINED_GLOSS_CHARS
                ),
            }
            for token in rule.explain(caption)
        ]
    else:
        labels, _ = rule.label(pa.array([caption], pa.string()))
        rows = [
            {"label": rule.keys[label], "name": rule.title(label), "gloss": rule.gloss(label)}
            for label in labels.tolist()
        ]
    return Table.of_figures(f"Labels by the rule {rule.name}", rows)


def summary_tables(
    total: Tally, captions_per_second: float, labels: Iterable[VocabularyLabel]
) -> list[Table]:
    """Return tables of the captions, the most frequent labels and the flawed rows."""
    row = {
        "captions": total.captions,
        "without a label": total.empty / total.captions if total.captions else None,
        "labels per caption": total.labels / total.captions if total.captions else None,
        "captions/s": round(captions_per_second) or None,
    }
    flaws = [
        {"problem": flaw, "rows": rows, "labelled": "after a repair" if flaw == NOT_UTF8 else "no"}
        for flaw, rows in sorted(total.flaws.items())
    ]
    return [
        Table.of_figures("Captions", [row], CAPTIONS_NOTE),
        frequent_label_table(labels),
        Table.of_figures(
            "Rows with problems",
            flaws,
            f"{NOT_UTF8}: {UTF8_REMEDY}." if NOT_UTF8 in total.flaws else "",
        ),
    ]


def frequent_label_table(labels: Iterable[VocabularyLabel]) -> Table:
    """Return a table of the first labels with their counts."""
    rows = [
        {
            "label": label.key,
            "name": label.name,
            "count": label.count,
            "gloss": _shorten(label.gloss, GLOSS_CHARS),
        }
        for label in islice(labels, MAX_FREQUENT_LABELS)
    ]
    return Table.of_figures("Most frequent labels", rows, "Of the captions read in this run.")


def labels_by_descending_count(
    vocabulary: Vocabulary, counts: npt.NDArray[np.int64]
) -> list[VocabularyLabel]:
    """Return the labels that occur, by descending count; `counts` has one entry per column."""
    order = np.argsort(-counts, kind="stable").tolist()
    return [
        replace(vocabulary.labels[column], count=int(counts[column]))
        for column in order
        if counts[column]
    ]
