"""What the default comparison trains on."""

from pathlib import Path

from bench.cli.default_comparison import on_data
from bench.experiment.config import change
from bench.experiment.experiments import DEFAULT_METHODS, EXPERIMENTS
from bench.experiment.fields import SEEN_CONCEPTS


def test_every_method_of_the_default_comparison_trains_without_the_held_out_concepts() -> None:
    compared = [EXPERIMENTS[f"{method}-tiny"] for method in DEFAULT_METHODS]
    assert on_data(compared, None, None, Path()) == [
        change(experiment, subset=SEEN_CONCEPTS) for experiment in compared
    ]
