"""A count of labels as a vocabulary."""

import numpy as np
import numpy.typing as npt

from bench.labels.rule import Rule
from bench.labels.vocabulary import SUBWORD, Label, Vocabulary, sorted_labels


def counted(rule: Rule, counts: npt.NDArray[np.int64], captions: int) -> Vocabulary:
    """Return the labels that occur, the most frequent first; `counts` holds one of each of the rule's labels."""
    kind = "subword" if rule.name == SUBWORD else "synset"
    labels = (
        Label(**{kind: rule.keys[label]}, name=rule.title(label), count=int(counts[label]), gloss=rule.gloss(label))
        for label in np.flatnonzero(counts).tolist()
    )
    return Vocabulary(rule=rule.name, captions=captions, labels=sorted_labels(labels))
