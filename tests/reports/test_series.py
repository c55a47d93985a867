"""MetricSeries over commits: which figures are joined, and in which order commits are."""

import json
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from bench.experiment.config import change
from bench.measure.metric_values import SECONDS, metric_values_of_record, read_metric_values
from reports.series import build_history
from tests.documents import commits, written
from tests.reports.conftest import speed_record


def history(folder: Path, *documents: dict[str, Any]) -> Any:
    return build_history(read_metric_values([written(folder, *documents)], []))


def test_machines_and_settings_are_never_joined(tmp_path: Path) -> None:
    found = history(tmp_path, *commits(1, 1), *commits(5, 5, machine="there"))
    times = [one for one in found.series if one.metric == SECONDS]
    assert {one.machine: len(one.points) for one in times} == {"here": 2, "there": 2}
    one = speed_record("clip-tiny", 0)
    other = replace(
        one, experiment=change(one.experiment, batch_size=64, images_seen=64, warmup_images=0)
    )
    joined = build_history(
        [*metric_values_of_record(one), *metric_values_of_record(speed_record("clip-tiny", 1))]
    )
    apart = build_history([*metric_values_of_record(one), *metric_values_of_record(other)])
    assert 2 * len(joined.series) == len(apart.series)
    upgraded = replace(one.circumstances, packages={"torch": "99"})
    apart = build_history(
        [
            *metric_values_of_record(one),
            *metric_values_of_record(replace(one, circumstances=upgraded)),
        ]
    )
    assert 2 * len(joined.series) == len(apart.series)


def test_commits_are_ordered_by_commit_time(tmp_path: Path) -> None:
    documents = commits(1, 2, 3)
    for number, one in enumerate(documents):
        one["datetime"] = f"2026-12-0{9 - number}T00:00:00+00:00"
    changed = json.loads(json.dumps(documents[1]))
    changed["commit_info"]["dirty"] = True
    found = history(tmp_path, changed, *documents[::-1])
    order = [(commit.id[:8], commit.is_dirty) for commit in found.commits]
    assert order == [
        ("00000000", False),
        ("00000001", False),
        ("00000001", True),
        ("00000002", False),
    ]
