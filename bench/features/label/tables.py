"""Tables that summarise counted labels, or show a caption's labels (`--try-rule-on`)."""

from textwrap import shorten

import pyarrow as pa

from bench.labels.adjectives import (
    MAX_FREQUENT_LABELS,
    format_adjective_warning,
    frequent_adjective_labels,
)
from bench.labels.label_rule import LabelRule
from bench.labels.labeller import LabelTally
from bench.labels.vocabulary import SUBWORD, Vocabulary
from bench.tables.tables import Table

CAPTIONS_NOTE = (
    "captions: one for each row of caption files and each sample of tar files, also of those that have no caption or "
    "no image; of other data, the captions of the samples that can be used."
)
SUBWORDS_NOTE = (
    "Labels are the tokens of captions: the rows of the embedding table of CLIP's and SigLIP's text tower, and the "
    "labels of SuperClass."
)
GLOSS_CHARS = 60


def caption_label_table(rule: LabelRule, caption: str) -> Table:
    """Return a table of a caption's labels in order."""
    labels = rule.label_ids(pa.array([caption], pa.string()))
    rows = [
        {"label": rule.keys[label], "name": rule.title(label), "gloss": rule.gloss(label)}
        for label in labels.values.to_pylist()
    ]
    return Table.from_dicts(f"Labels by the rule {rule.name}", rows)


def caption_count_table(total: LabelTally) -> Table:
    """Return a table of the number of captions and their labels."""
    num_captions = max(1, total.captions)
    row = {
        "captions": total.captions,
        "without a label": total.empty / num_captions,
        "labels per caption": int(total.counts.sum()) / num_captions,
    }
    return Table.from_dicts("Captions", [row], CAPTIONS_NOTE)


def frequent_labels_table(vocabulary: Vocabulary) -> Table:
    """Return a table of the first labels of a vocabulary, with what subwords are for and a warning of adjectives."""
    labels = vocabulary.labels
    rows = [
        {
            "label": label.key,
            "name": label.name,
            "count": label.count,
            "gloss": shorten(label.gloss, GLOSS_CHARS, placeholder=" …"),
        }
        for label in labels[:MAX_FREQUENT_LABELS]
    ]
    note = format_adjective_warning(frequent_adjective_labels(labels))
    if vocabulary.rule == SUBWORD:
        note = SUBWORDS_NOTE
    note = f"Of the captions read in this run.\n{note}".rstrip()
    return Table.from_dicts("Most frequent labels", rows, note)
