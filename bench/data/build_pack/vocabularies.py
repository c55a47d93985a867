"""The shipped vocabularies, counted over the pack's captions: `python -m bench.data.build_pack.vocabularies`."""

from bench.data.manifest import pretrain_shards
from bench.labels.counting import counted
from bench.labels.labeller import Tally
from bench.labels.rules import rule_named
from bench.labels.shard_job import Job, one_by_one, run_job
from bench.labels.vocabulary import SHIPPED, Vocabulary, write_vocabulary

# Fewest times that a label must occur; CatLIP took 500 in its 1.3 billion captions.
SHIPPED_VOCABULARIES = {"pack-synsets": ("corenet", 10), "pack-subwords": ("subword", 1)}


def shipped_vocabulary(name: str) -> Vocabulary:
    """Count a vocabulary anew."""
    rule, min_count = SHIPPED_VOCABULARIES[name]
    total = Tally()
    for shard in pretrain_shards():
        job = Job(shard, rule, column=None)
        total.add(run_job(job, one_by_one(job), lambda _captions, _bytes: None))
    return counted(rule_named(rule), total.counts, total.captions).cut(min_count, None)


def main() -> None:
    """Write the files into the checkout."""
    for name in SHIPPED_VOCABULARIES:
        write_vocabulary(shipped_vocabulary(name), SHIPPED / f"{name}.json")


if __name__ == "__main__":
    main()
