"""The page says what would tell two towers apart, and that towers like untrained ones rank nothing."""

import numpy as np
import pytest
from msgspec.structs import replace

from bench.measure.comparison_records import select_comparison_records
from bench.records.record import Record
from bench.statistics.accuracies import MIN_SEEDS_FOR_RANKING, paired_differences_needed
from bench.transfer.subject_scores import collect_full_label_scores
from reports.accuracy.undecided_tasks import describe_undecided_tasks
from tests.reports.conftest import short, training_record, transfer_records


def needs(records: list[Record], name: str = "1-default") -> list[str]:
    comparison = select_comparison_records(name, records)
    return list(describe_undecided_tasks(comparison, collect_full_label_scores(comparison)))


@pytest.mark.parametrize("seeds", [1, 3])
def test_needs_follow_from_the_spread_over_seeds_and_test_images(seeds: int) -> None:
    records = [training_record(name, 0) for name in ("clip-tiny", "catlip-tiny")]
    differences = []
    for seed in range(seeds):
        answers = {}
        for record in map(short, transfer_records(seed)):
            if "equal device seconds" in record.measured.budgets:
                correct = [float(digit) for digit in record.measured.scores[0].correct]
                answers[record.measured.subject] = np.array(correct)
            records.append(record)
        differences.append(answers["catlip-tiny"] - answers["clip-tiny"])
    table = np.array(differences)
    images = paired_differences_needed(table.mean(), table.mean(axis=0).std(ddof=1))
    trainings = MIN_SEEDS_FOR_RANKING
    if seeds > 1:
        over_seeds = paired_differences_needed(table.mean(), table.mean(axis=1).std(ddof=1))
        trainings = max(trainings, over_seeds)
    (sentence,) = needs(records)
    assert (
        f"CatLIP from CLIP on unseen subgroup, where they differ by +{table.mean():.3f}" in sentence
    )
    assert f"takes at least {trainings:,} training seeds of each" in sentence
    assert f"{images:,} test images (there are 822)" in sentence
    assert f"about {2 * trainings * 91.2 / 60:.1f}\N{NO-BREAK SPACE}min of training" in sentence
    assert ("a lower bound" in sentence) == (seeds == 1)
    assert not needs(records, "1-smoke")


def test_towers_like_untrained_ones_rank_nothing() -> None:
    records = [short(record) for record in transfer_records(0)]
    untrained = records[-1].measured.scores
    same = [replace(one, measured=replace(one.measured, scores=untrained)) for one in records]
    (sentence,) = needs(same)
    assert "CLIP, SigLIP, CatLIP and SuperClass cannot be told from an untrained tower" in sentence
    assert not any("untrained" in sentence for sentence in needs(records))
