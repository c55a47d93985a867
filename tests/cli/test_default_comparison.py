"""What the default comparison trains on."""

from bench.cli.compare import Bench
from bench.config import change
from bench.experiments import COMPARED, EXPERIMENTS
from bench.fields import SEEN_CONCEPTS


def test_every_method_of_the_default_comparison_trains_without_the_held_out_concepts() -> None:
    compared = [EXPERIMENTS[f"{method}-tiny"] for method in COMPARED]
    assert Bench()._on_data(compared) == [change(one, subset=SEEN_CONCEPTS) for one in compared]
