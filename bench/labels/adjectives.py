"""A warning of frequent labels whose words are mostly adjectives, such as large.n.01, "a garment size"."""

from collections.abc import Iterable, Sequence
from functools import cache

from bench.console.console import PROGRAM
from bench.data.manifest import PACK
from bench.experiment.config import Experiment
from bench.labels.vocabulary import (
    VocabularyLabel,
    find_vocabulary_field_name,
    read_vocabulary,
    replace_unshipped_vocabulary,
)
from bench.labels.wordnet import read_compressed_tsv

MAX_FREQUENT_LABELS = 10
WARNING = (
    "Frequent labels come from words that are mostly adjectives: {labels}. To label nouns alone, count the vocabulary "
    f"with: {PROGRAM} label DATA --rule paper --out vocabulary.json (docs/labels.md)."
)


def frequent_adjective_labels(labels_by_count: Sequence[VocabularyLabel]) -> tuple[str, ...]:
    """Return "name (gloss)" of the labels whose words are mostly adjectives, among the ten most frequent ones.

    `labels_by_count` are in descending order of their counts. Mostly adjectives are words that WordNet's tagged texts
    use more often as adjectives than as nouns.
    """
    names = []
    for label in labels_by_count[:MAX_FREQUENT_LABELS]:
        lemma, _, sense = label.name.partition(".")
        if sense == "n.01" and lemma in _read_mostly_adjective_lemmas():
            names.append(f"{label.name} ({label.gloss})")
    return tuple(names)


def frequent_adjective_labels_of_experiment(experiment: Experiment) -> tuple[str, ...]:
    """Return `frequent_adjective_labels` of an experiment's vocabulary of synsets; none if it has none."""
    if find_vocabulary_field_name(experiment) != "synset_vocabulary":
        return ()
    name = replace_unshipped_vocabulary(experiment.targets.synset_vocabulary)
    return frequent_adjective_labels(read_vocabulary(name).labels)


def format_adjective_warning(labels: Iterable[str]) -> str:
    """Return the warning of the labels that `frequent_adjective_labels` returned; empty if there are none."""
    names = "; ".join(labels)
    return WARNING.format(labels=names) if names else ""


@cache
def _read_mostly_adjective_lemmas() -> frozenset[str]:
    rows = read_compressed_tsv(PACK / "wordnet30-adjectives.tsv.gz")
    return frozenset(lemma for lemma, *_ in rows)
