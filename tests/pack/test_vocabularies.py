"""The shipped vocabularies are the counts of the pack's captions."""

import pytest

from bench.labels.vocabulary import read_vocabulary
from tests.pack.vocabularies import RULES, shipped_vocabulary
from tests.processes import in_child


@pytest.mark.parametrize("name", RULES)
def test_shipped_vocabularies_are_counted_from_the_pack(name: str) -> None:
    """Counted in a process whose shapes are not checked, in a quarter of the time."""
    assert read_vocabulary(name) == in_child(shipped_vocabulary, name)
