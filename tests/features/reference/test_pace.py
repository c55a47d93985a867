"""What the comparison with open_clip expects on a GPU lies within the bounds of the other verbs."""

import pytest

from bench.cli.main import parse
from bench.features.reference import SIDES
from bench.features.reference.verb import Reference
from bench.orchestration.pace import GpuPace
from tests.orchestration.test_gpu_pace import LARGE, START, run_seconds


@pytest.mark.parametrize("card", LARGE)
def test_expected_seconds_cover_a_plain_roofline_and_are_at_most_three_times_as_much(card: str) -> None:
    command = parse(["reference", "open-clip", "--set", "batch_size=256", "--rounds", "2"])
    assert isinstance(command, Reference)
    arms, seconds = command._plan(on_gpu=True), START
    for round_ in range(command.rounds or 5):
        of_side = sum(run_seconds(arm, LARGE[card], is_first=round_ == 0) for arm in arms)
        seconds += len(SIDES["open-clip"]) * of_side
    assert 1 <= command.expected_seconds(GpuPace(gpu=LARGE[card])) / seconds <= 3
