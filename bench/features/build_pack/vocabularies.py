"""The shipped vocabularies, counted over the pack's captions: `python -m bench.features.build_pack.vocabularies`."""

from bench.data.manifest import pretrain_shards
from bench.labels.label_files import count_file_labels
from bench.labels.vocabulary import SHIPPED_FOLDER, Vocabulary, write_vocabulary

# Rule and least count of a label; CatLIP's least count was 500 in 1.3 billion captions.
SHIPPED_VOCABULARIES = {"pack-synsets": ("corenet", 10), "pack-subwords": ("subword", 1)}


def shipped_vocabulary(name: str) -> Vocabulary:
    """Count a shipped vocabulary over the pack's captions."""
    rule, min_count = SHIPPED_VOCABULARIES[name]
    return count_file_labels(pretrain_shards(), rule).filtered(min_count, None)


if __name__ == "__main__":
    for name in SHIPPED_VOCABULARIES:
        write_vocabulary(shipped_vocabulary(name), SHIPPED_FOLDER / f"{name}.json")
