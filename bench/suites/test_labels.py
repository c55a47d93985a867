"""Captions to labels: a column of distinct captions, one in ten of which needs all of the cleaning."""

import pyarrow as pa
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.labels.synset_rules import CorenetRule
from bench.labels.wordnet import Lexicon
from bench.suites.captions import distinct_captions

CAPTIONS = 20_000


@pytest.fixture(scope="module")
def captions() -> pa.StringArray:
    return pa.array(distinct_captions(CAPTIONS))


@pytest.mark.benchmark(group="labels")
def test_corenet_on_captions_of_known_words(
    benchmark: BenchmarkFixture, captions: pa.StringArray
) -> None:
    rule = CorenetRule()
    rule.label(captions)
    benchmark(rule.label, captions)
    benchmark.extra_info["captions"] = CAPTIONS


@pytest.mark.benchmark(group="labels")
def test_corenet_from_scratch(benchmark: BenchmarkFixture, captions: pa.StringArray) -> None:
    benchmark(lambda: CorenetRule().label(captions))
    benchmark.extra_info["captions"] = CAPTIONS


@pytest.mark.benchmark(group="labels")
def test_lexicon_is_read(benchmark: BenchmarkFixture) -> None:
    benchmark(Lexicon)
