"""The verb `explain`: the causes of the throughput ratio of two experiments."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from msgspec import structs
from tyro.conf import Positional

from bench.cli.options import (
    Json,
    Results,
    Settings,
)
from bench.console.console import FAILED_CASE, OK
from bench.console.options import MINUTES_RANGE, ROUNDS_RANGE, require_range
from bench.console.tables import print_tables
from bench.experiment.config import FIELDS, Experiment, change
from bench.experiment.experiments import EXPERIMENTS, HEADLINE, get_experiment
from bench.experiment.recipes import PUBLISHED_HOURS, PUBLISHED_SOURCE
from bench.experiment.settings import with_settings
from bench.features.explain.decomposition import decompose
from bench.features.explain.factors import select_factors
from bench.features.explain.ladder import (
    PADDING,
    TOWER_FIELDS,
    ExpectedRatio,
    Factor,
    Ladder,
    build_ladder,
    needs_padding_stage,
    stages_between,
)
from bench.features.explain.tables import explained_table
from bench.measure.tables import failure_table
from bench.orchestration.comparison import Comparison
from bench.orchestration.preflight import begin, check, has_gpu, resume
from bench.records.record import read_record

Recipe = Literal["published", "controlled"]
ENDINGS: dict[Recipe, str] = {"published": "datacomp", "controlled": "controlled"}
# Factors of CLIP's released run that are no fields of its recipe.
PUBLISHED_FACTORS = (
    "kernel",
    "global_negatives",
)
COMMUNICATION = "a single process communicates nothing; captions of other processes are simulated"
MIN_LADDER_ROUNDS = 2  # an interval needs two


@dataclass(frozen=True, slots=True)
class ExplainRatio:
    """Find the causes of the throughput ratio of two experiments.

    Each round times every experiment of a ladder. Each experiment differs from the previous one in one cause. The table
    shows the ratio of each cause beside its FLOP-predicted ratio.
    """

    name: Positional[str]  # name of the experiment at which the ladder ends
    baseline: str  # name of the experiment at which the ladder begins, with captions padded to the context length
    recipe: Recipe | None = (
        None  # recipe of both experiments: published (each its own), controlled (CatLIP's for both)
    )
    # factors to vary: kernel, precision, residual, compile, checkpointing, sampler, batch, global_negatives, gather,
    # optimizer, ema, grad_norm, augmentation, dense_labels, nltk_labels; or FIELD=VALUE, the value at the beginning of
    # the ladder
    factors: tuple[str, ...] = ()
    rounds: int | None = (
        None  # number of rounds of fresh processes; default: as many as --minutes allow
    )
    minutes: float = (
        12.0  # minutes for the rounds, if --rounds is not given; at least two rounds are run
    )
    resume: bool = False  # resume the newest ladder; recorded runs are not repeated
    settings: Settings = ()
    results: Results = Path("results")
    json: Json = None

    def run(self) -> int:
        """Build the ladder, run the rounds and print the causes."""
        ladder, experiments = self._plan()
        check(self.results, experiments, may_differ=FIELDS)
        purpose = "explain" if self.recipe is None else f"explain-{self.recipe}"
        comparison = (resume if self.resume else begin)(self.results, purpose, experiments)
        self._record_ladder(comparison, ladder)
        self._run_rounds(comparison)
        records = comparison.records()
        result = decompose(records)
        tables = [] if result is None else [explained_table(result)]
        print_tables([*tables, failure_table(records)], self.json)
        return FAILED_CASE if comparison.runner.failures or result is None else OK

    def _plan(self) -> tuple[Ladder, list[Experiment]]:
        """Return the ladder and its experiments; ValueError for options that cannot be."""
        require_range("rounds", self.rounds, MIN_LADDER_ROUNDS, ROUNDS_RANGE[1])
        require_range("minutes", self.minutes, *MINUTES_RANGE)
        names = (self.name, self.baseline)
        pair = [
            get_recipe_experiment(name, self.recipe) if self.recipe else get_experiment(name)
            for name in names
        ]
        named, baseline = (with_settings(experiment, self.settings) for experiment in pair)
        chosen = (*PUBLISHED_FACTORS, *self.factors) if self.recipe == "published" else self.factors
        ladder, experiments = plan_ladder(named, baseline, chosen, on_gpu=has_gpu())
        if self.recipe is not None:
            ladder = structs.replace(ladder, references=expected_ratios(*pair))
        if self.recipe == "published":
            ladder = structs.replace(
                ladder, left_out=ladder.left_out | {"communication": COMMUNICATION}
            )
        return ladder, experiments

    def _record_ladder(self, comparison: Comparison, ladder: Ladder) -> None:
        """Write the ladder before its runs; ValueError if the comparison to resume has another one."""
        run = comparison.new_run(
            "bench.features.explain.ladder:record_ladder",
            "ladder",
            comparison.experiments[-1],
            "the ladder",
            ladder=ladder,
        )
        if run.is_done and read_record(run.path).measured != ladder:
            raise ValueError(
                f"{comparison.name} has another ladder: start a new one without --resume"
            )
        comparison.runner.run([run], threads=comparison.cores)

    def _run_rounds(self, comparison: Comparison) -> None:
        """Run as many rounds as were asked for, or as fit into the time by the duration of the last one."""
        planned = self.rounds or MIN_LADDER_ROUNDS
        started = time.monotonic()
        round_ = 0
        while round_ < planned:
            round_started = time.monotonic()
            comparison.run_round(comparison.speed_runs(comparison.experiments, round_, planned))
            round_ += 1
            now = time.monotonic()
            seconds = now - round_started
            if self.rounds is None and not comparison.runner.failures:
                planned = max(
                    MIN_LADDER_ROUNDS, round_ + int((60 * self.minutes - (now - started)) / seconds)
                )
            comparison.runner.progress.expect((planned - round_) * seconds)


def get_recipe_experiment(name: str, recipe: Recipe) -> Experiment:
    """Return a named experiment's recipe; ValueError lists the experiments that have one."""
    ending = ENDINGS[recipe]
    if f"{name}-{ending}" not in EXPERIMENTS:
        others = [
            other.removesuffix(f"-{ending}")
            for other in EXPERIMENTS
            if other.endswith(f"-{ending}")
        ]
        raise ValueError(
            f"{name} has no {recipe} recipe (experiments with one: {', '.join(others)})"
        )
    return EXPERIMENTS[f"{name}-{ending}"]


def plan_ladder(
    first: Experiment, baseline: Experiment, chosen: Sequence[str], *, on_gpu: bool
) -> tuple[Ladder, list[Experiment]]:
    """Return the ladder from `baseline` to `first` and its experiments; ValueError if there is none.

    Factors that a tower refuses are left out with the tower's reason; torch is imported to ask it.
    """
    from models.text_tower import why_padding_is_needed

    padding_reason = (
        why_padding_is_needed(baseline.text.text_tower)
        if needs_padding_stage(baseline, first)
        else None
    )
    selected, left_out = select_factors(baseline, first, chosen, on_gpu=on_gpu)
    if padding_reason:
        left_out[PADDING] = padding_reason
    factors = []
    for factor in selected:
        refusal = _reason_tower_cannot_be_built(first, factor)
        if refusal is None:
            factors.append(factor)
        else:
            left_out[factor.name] = refusal
    stages = stages_between(baseline, first, padding_reason, factors)
    ladder, experiments = build_ladder(stages, factors, pace=first)
    return structs.replace(ladder, left_out=left_out), experiments


def _reason_tower_cannot_be_built(first: Experiment, factor: Factor) -> str | None:
    """Return the reason why a tower cannot be built with a factor's values, or None."""
    from bench.measure.costs import build_on_meta

    if factor.field not in TOWER_FIELDS:
        return None
    try:
        for value in (factor.before, factor.after):
            build_on_meta(with_settings(first, [value]))
    except ValueError as error:
        return str(error)
    return None


def expected_ratios(first: Experiment, baseline: Experiment) -> tuple[ExpectedRatio, ...]:
    """Return the FLOP-predicted ratios of a pair of recipes, and the published ratio."""
    from bench.measure.costs import forward_flops_as_released

    def counted(what: str, **changes: tuple[int, ...]) -> ExpectedRatio:
        before = forward_flops_as_released(change(baseline, **changes))
        after = forward_flops_as_released(change(first, **changes))
        source = "counted: image tower, captions padded to their context, head"
        return ExpectedRatio(what=what, ratio=before / after, source=source)

    ratios = (
        counted("FLOPs alone, one image size", image_sizes=()),
        counted("FLOPs alone, the recipes' image sizes"),
    )
    if (baseline.method, first.method) != HEADLINE or first.image.tower not in PUBLISHED_HOURS:
        return ratios
    published = 1 / PUBLISHED_HOURS[first.image.tower]
    return (*ratios, ExpectedRatio(what="published", ratio=published, source=PUBLISHED_SOURCE))
