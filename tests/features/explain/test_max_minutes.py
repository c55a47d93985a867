"""Rounds that fill a time fill it also over several commands of --max-minutes."""

from tests.orchestration.test_max_minutes import EXPLAIN, Simulate, names, simulate  # noqa: F401 - a fixture


def test_rounds_that_fill_a_time_fill_it_once_over_all_commands(simulate: Simulate) -> None:  # noqa: F811
    """A pair of rounds that an earlier command timed counts as long as one that is timed now."""
    arguments = [*EXPLAIN, "--minutes", "30"]
    clock, codes = simulate(arguments, 10, 1.0, on_gpu=True)
    assert len(codes) > 2
    whole, _ = simulate(arguments, 1000, 1.0, on_gpu=True)
    assert names(clock) == names(whole)
