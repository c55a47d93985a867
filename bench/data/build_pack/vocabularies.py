"""The shipped vocabularies, counted over the pack's captions: `python -m bench.data.build_pack.vocabularies`."""

from bench.data.manifest import pretrain_shards
from bench.labels.label_files import LabelJob, run_job
from bench.labels.labeller import Tally, count_vocabulary, get_rule
from bench.labels.vocabulary import SHIPPED_FOLDER, Vocabulary, write_vocabulary

# Rule and least count of a label; CatLIP's least count was 500 in 1.3 billion captions.
SHIPPED_VOCABULARIES = {"pack-synsets": ("corenet", 10), "pack-subwords": ("subword", 1)}


def shipped_vocabulary(name: str) -> Vocabulary:
    """Count a shipped vocabulary over the pack's captions."""
    rule, min_count = SHIPPED_VOCABULARIES[name]
    total = Tally()
    for shard in pretrain_shards():
        total.add(run_job(LabelJob(shard, rule, column=None)))
    return count_vocabulary(get_rule(rule), total.counts, total.captions).filtered(min_count, None)


if __name__ == "__main__":
    for name in SHIPPED_VOCABULARIES:
        write_vocabulary(shipped_vocabulary(name), SHIPPED_FOLDER / f"{name}.json")
