"""Captions to labels: WordNet's definitions as captions."""

import pyarrow as pa
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.labels.synset_rules import CorenetRule
from bench.labels.wordnet import lexicon

CAPTIONS = 20_000


@pytest.mark.benchmark(group="labels")
@pytest.mark.parametrize("is_warm", [True, False], ids=["known words", "from scratch"])
def test_corenet(benchmark: BenchmarkFixture, is_warm: bool) -> None:
    """Label 20,000 captions by CoreNet's rule, whose words are known from before or not."""
    captions = pa.array([lexicon().gloss(label) for label in range(CAPTIONS)])
    rule = CorenetRule()
    rule.label_ids(captions)
    benchmark(lambda: (rule if is_warm else CorenetRule()).label_ids(captions))
