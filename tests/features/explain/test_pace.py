"""What `explain` expects on a GPU lies within the bounds of the other verbs."""

import pytest

from bench.cli.main import parse
from bench.features.explain.verb import ExplainRatio
from bench.orchestration.pace import GpuPace
from tests.orchestration.test_gpu_pace import LARGE, START, run_seconds

WORDS = ["explain", "catlip-vit-b16", "--baseline", "clip-vit-b16", "--factors", "kernel", "batch", "--rounds", "2"]


@pytest.mark.parametrize("card", LARGE)
def test_expected_seconds_cover_a_plain_roofline_and_are_at_most_three_times_as_much(card: str) -> None:
    command = parse(WORDS)
    assert isinstance(command, ExplainRatio)
    _, arms = command._plan(None, on_gpu=True)
    rounds = [(arms, True), ([arms[0], arms[-1]], False)]
    seconds = START + sum(
        run_seconds(arm, LARGE[card], is_first=is_first) for timed, is_first in rounds for arm in timed
    )
    assert 1 <= command.expected_seconds(GpuPace(gpu=LARGE[card])) / seconds <= 3
