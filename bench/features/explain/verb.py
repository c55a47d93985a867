"""The verb `explain`: the causes of the throughput ratio of two experiments."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from bench.cli.options import ExperimentName, Json, Results, Rounds, Settings
from bench.console.console import FAILED_CASE, OK
from bench.console.options import ROUNDS_RANGE, require_option_in_range
from bench.console.tables import print_tables
from bench.experiment.config import FIELDS
from bench.experiment.experiments import get_experiment
from bench.experiment.settings import renamed_with_settings
from bench.features.explain.decomposition import decompose_ratio_by_ladder
from bench.features.explain.ladder import plan_ladder
from bench.features.explain.tables import cause_table
from bench.measure.tables import failed_run_table
from bench.orchestration.preflight import (
    begin_comparison,
    has_gpu,
    require_runnable_and_prepare_data,
)
from bench.orchestration.scope import default_num_rounds

PURPOSE = "explain"
MIN_LADDER_ROUNDS = 2  # an interval needs two


@dataclass(frozen=True, slots=True)
class ExplainRatio:
    """Find the causes of the throughput ratio of two experiments.

    Each round times every experiment of a ladder. Each experiment differs from the previous one in one cause. The table
    shows the ratio of each cause beside its FLOP-predicted ratio.
    """

    # experiment whose speed is explained: the end of the ladder (see `list`)
    name: Positional[ExperimentName]
    baseline: ExperimentName  # experiment that it is compared with: the beginning of the ladder
    # causes besides the fields in which the experiments differ: fields with the values that they have at the beginning
    # of the ladder, such as attention=plain
    extra_baseline_settings: Annotated[tuple[str, ...], arg(metavar="FIELD=VALUE ...")] = ()
    rounds: Rounds = None
    # continue the newest ladder in RESULTS, which must be of the same experiments and commit: recorded runs are not
    # repeated; default: begin a new one
    resume: bool = False
    settings: Settings = ()
    results: Results = Path("results")
    json: Json = None

    def run(self) -> int:
        """Build the ladder, run the rounds and print the causes."""
        require_option_in_range("rounds", self.rounds, MIN_LADDER_ROUNDS, ROUNDS_RANGE[1])
        baseline = renamed_with_settings(get_experiment(self.baseline), self.settings)
        target = renamed_with_settings(get_experiment(self.name), self.settings)
        ladder, experiments = plan_ladder(baseline, target, self.extra_baseline_settings)
        require_runnable_and_prepare_data(self.results, experiments, may_differ=FIELDS)
        comparison = begin_comparison(self.results, PURPOSE, experiments, resume=self.resume)
        ladder_run = comparison.new_run(
            "bench.features.explain.ladder:return_ladder",
            "ladder",
            experiments[-1],
            "the ladder",
            ladder=ladder,
        )
        comparison.runner.run([ladder_run], threads=comparison.cores)
        num_rounds = self.rounds or default_num_rounds(on_gpu=has_gpu())
        comparison.measure_speed(range(num_rounds))
        records = comparison.records()
        tables = [failed_run_table(records)]
        result = decompose_ratio_by_ladder(records)
        if result is not None:
            tables.insert(0, cause_table(result))
        print_tables(tables, self.json)
        return FAILED_CASE if comparison.runner.failures or result is None else OK
