"""The shipped vocabularies, counted over the pack's captions: `python -m tests.pack.vocabularies`."""

from bench.experiment.fields import PACK_DATA, SampleSettings
from bench.labels.counting import count_label_vocabulary
from bench.labels.vocabulary import SHIPPED_FOLDER, Vocabulary, write_vocabulary

RULES = {"shipped-synsets": "corenet", "shipped-subwords": "subword"}
# CatLIP's least count was 500 in 1.3 billion captions.
MIN_COUNTS = {
    "shipped-synsets": 10,
    "shipped-subwords": 1,
}


def shipped_vocabulary(name: str) -> Vocabulary:
    """Count a shipped vocabulary over the pack's captions."""
    return count_label_vocabulary(SampleSettings(data=PACK_DATA), RULES[name]).keep_frequent(
        MIN_COUNTS[name], None
    )


if __name__ == "__main__":
    for name in RULES:
        write_vocabulary(shipped_vocabulary(name), SHIPPED_FOLDER / f"{name}.json")
