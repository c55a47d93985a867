"""The shipped vocabularies are the counts of the pack's captions."""

import pytest

from bench.labels.vocabulary import read_vocabulary
from tests.pack.vocabularies import RULES, shipped_vocabulary


@pytest.mark.parametrize("name", RULES)
def test_shipped_vocabularies_are_counted_from_the_pack(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By this process, for others would import torch."""
    monkeypatch.setattr("bench.labels.counting.count_available_cores", lambda: 1)
    assert read_vocabulary(name) == shipped_vocabulary(name)
