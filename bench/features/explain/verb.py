"""The verb `explain`: decomposes the throughput ratio of two experiments into factors, and verifies their product."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple

from msgspec import structs
from tyro.conf import Positional

from bench.cli.options import (
    Caption,
    CaptionLengths,
    Json,
    MaxMinutes,
    Results,
    Settings,
    add_caption_settings,
    set_deadline,
)
from bench.console.console import DISAGREEMENT, FAILED_CASE, INCONCLUSIVE, OK, log
from bench.console.options import MINUTES_RANGE, ROUNDS_RANGE, require_range
from bench.console.tables import print_tables
from bench.experiment.config import FIELDS, Experiment, change
from bench.experiment.experiments import EXPERIMENTS, HEADLINE, get_experiment
from bench.experiment.fields import PACK_DATA
from bench.experiment.recipes import PUBLISHED_HOURS, PUBLISHED_SOURCE
from bench.experiment.settings import with_settings
from bench.features.explain.decomposition import decompose
from bench.features.explain.factors import select_factors
from bench.features.explain.ladder import (
    PADDING,
    TOWER_FIELDS,
    WAITING,
    ExpectedRatio,
    Factor,
    Ladder,
    build_ladder,
    needs_padding_stage,
    stages_between,
)
from bench.features.explain.tables import (
    decompositions_table,
    describe_interval_at_double_rounds,
    explained_table,
    reference_table,
)
from bench.measure.tables import failure_table
from bench.orchestration.comparison import Comparison
from bench.orchestration.preflight import begin, check, has_gpu, resume
from bench.orchestration.runs import Run
from bench.records.record import read_record
from bench.statistics.verdicts import Agreement

Recipe = Literal["published", "controlled"]
ENDINGS: dict[Recipe, str] = {"published": "datacomp", "controlled": "controlled"}
PUBLISHED_FACTORS = ("kernel", "global_negatives")  # factors of CLIP's released run that are no fields of its recipe
NOT_PUBLISHED_HERE = {
    "communication": "a single process communicates nothing; captions of other processes are simulated"
}
PACK_IN_MEMORY = "the pack is in memory; --set data=SHARDS measures it"
MIN_ROUNDS = 2  # one for the parts, one for the whole
FIRST_ROUNDS = 4  # that are run whatever the time: an interval needs two of each kind
# From best to worst: the worst of several decompositions counts.
EXIT_CODES: dict[Agreement, int] = {"agree": OK, "inconclusive": INCONCLUSIVE, "disagree": DISAGREEMENT}


@dataclass(frozen=True, slots=True)
class ExplainRatio:
    """Decompose the throughput ratio of two experiments into factors, and test whether their product is the ratio.

    Half of the rounds time every configuration of a ladder, the other half its two ends alone. The exit code is 1 if
    the product of the factors disagrees with the whole ratio, 4 if the test is inconclusive. A biased configuration
    cancels in the product; compare each factor with its FLOP-predicted ratio to find one.
    """

    name: Positional[str]  # name of the experiment at which the ladder ends
    baseline: str  # name of the experiment at which the ladder begins, with captions padded to the context length
    # recipe of both experiments: published (each its own), controlled (CatLIP's for both), or both recipes in turn
    recipe: tuple[Recipe, ...] = ()
    # factors to vary: kernel, precision, residual, compile, checkpointing, sampler, batch, global_negatives, gather,
    # optimizer, ema, grad_norm, augmentation, dense_labels, nltk_labels; or FIELD=VALUE, the value at the beginning of
    # the ladder
    factors: tuple[str, ...] = ()
    factorial: bool = False  # time all combinations of at most four factors, for values that depend on no order
    # number of rounds of fresh processes, half for the parts, half for the whole; default: as many as --minutes allow
    rounds: int | None = None
    minutes: float = 12.0  # time for the rounds of each recipe, if --rounds is not given; at least four are run
    resume: bool = False  # resume the newest decomposition; recorded runs are not repeated
    max_minutes: MaxMinutes = None
    caption_lengths: CaptionLengths = None
    caption: Caption = None
    settings: Settings = ()
    results: Results = Path("results")
    json: Json = None
    purpose: ClassVar[str] = "explain"
    resume_hint = "finished runs are kept; resume with the same command and --resume"

    def run(self) -> int:
        """Build the ladders, run the rounds and print the decompositions."""
        start, recipes = time.monotonic(), self._recipes
        plans = {recipe: self._plan(recipe, on_gpu=has_gpu()) for recipe in recipes}  # errors come before the first run
        begun = [self._begin(recipe, *plan) for recipe, plan in plans.items()]
        set_deadline(begun[0].comparison, self.max_minutes, start)
        runner = begun[0].comparison.runner
        self._run_rounds(begun)
        records, names = [one.comparison.records() for one in begun], [recipe or self.name for recipe in recipes]
        found = {name: one for name, rows in zip(names, records, strict=True) if (one := decompose(rows))}
        last = [decompositions_table(found)] if len(found) > 1 else [reference_table(one) for one in found.values()]
        failures = failure_table([*chain.from_iterable(records)])
        print_tables([*map(explained_table, found.values()), *last, failures], self.json)
        for one in found.values() if self.rounds is None else ():
            log(describe_interval_at_double_rounds(one))
        if runner.failures or len(found) < len(begun):
            return FAILED_CASE
        return EXIT_CODES[max((one.verdict for one in found.values()), key=[*EXIT_CODES].index)]

    @property
    def _recipes(self) -> Sequence[Recipe | None]:
        return [*dict.fromkeys(self.recipe)] or [None]

    def _plan(self, recipe: Recipe | None, *, on_gpu: bool) -> tuple[Ladder, list[Experiment]]:
        """Return the ladder of a recipe and its configurations; ValueError for options that cannot be."""
        require_range("rounds", self.rounds, MIN_ROUNDS, ROUNDS_RANGE[1])
        require_range("minutes", self.minutes, *MINUTES_RANGE)
        require_range("max-minutes", self.max_minutes, *MINUTES_RANGE)
        pair = [get_experiment(name) for name in (self.name, self.baseline)]
        if recipe is not None:
            pair = [get_recipe_experiment(one.name, recipe) for one in pair]
        settings = add_caption_settings(self.settings, self.caption_lengths, self.caption)
        first, baseline = (with_settings(one, settings) for one in pair)
        chosen = (*PUBLISHED_FACTORS, *self.factors) if recipe == "published" else self.factors
        ladder, configurations = plan_ladder(first, baseline, chosen, factorial=self.factorial, on_gpu=on_gpu)
        if recipe is not None:
            ladder = structs.replace(ladder, references=expected_ratios(*pair))
        if recipe == "published":
            left_out = NOT_PUBLISHED_HERE | ({WAITING: PACK_IN_MEMORY} if first.input.data == PACK_DATA else {})
            ladder = structs.replace(ladder, left_out=ladder.left_out | left_out)
        return ladder, configurations

    def _begin(
        self, recipe: Recipe | None, ladder: Ladder, configurations: Sequence[Experiment]
    ) -> "DecompositionRuns":
        """Begin or resume a decomposition; ValueError if the one to resume is of another ladder."""
        purpose = "explain" if recipe is None else f"explain-{recipe}"
        check(self.results, configurations, may_differ=FIELDS)
        comparison = (resume if self.resume else begin)(self.results, purpose, configurations)
        runs = plan_runs(comparison, ladder)
        if runs.record_ladder.is_done and read_record(runs.record_ladder.path).measured != ladder:
            raise ValueError(f"{comparison.name} has another ladder: start a new decomposition without --resume")
        return runs

    def _run_rounds(self, begun: Sequence["DecompositionRuns"]) -> None:
        """Record the ladders, and run the rounds in turn, as many as were asked for, or in pairs while time is left."""
        first = begun[0].comparison
        budget = 60 * self.minutes * len(begun)
        first.runner.run([runs.record_ladder for runs in begun], threads=first.cores)
        planned = self.rounds or FIRST_ROUNDS
        started = pair_started = time.monotonic()
        round_ = 0
        while round_ < planned:
            for runs in begun:  # by one runner, which counts all failures and shows one progress
                first.run_round(runs.runs_of_round(round_, planned))
            round_ += 1
            if round_ % 2:
                continue
            now = time.monotonic()
            pair_seconds = now - pair_started
            pair_started = now
            if self.rounds is None and round_ >= FIRST_ROUNDS and not first.runner.failures:
                planned = round_ + rounds_that_fit(budget - (now - started), pair_seconds)
            first.runner.progress.expect((planned - round_) / 2 * pair_seconds)


class DecompositionRuns(NamedTuple):
    """A decomposition that was begun or is resumed."""

    comparison: Comparison
    record_ladder: Run  # writes the ladder, before its runs
    runs_of_round: Callable[[int, int], list[Run]]  # of a round of so many: all configurations if it is even, else ends


def plan_runs(comparison: Comparison, ladder: Ladder) -> "DecompositionRuns":
    """Return the runs of a ladder, whose configurations are the experiments of a comparison."""
    configurations = comparison.experiments
    ends = [configurations[0], configurations[len(ladder.chain) - 1]]

    def runs_of_round(round_: int, rounds: int) -> list[Run]:
        return comparison.speed_runs(ends if round_ % 2 else configurations, round_, rounds, round_ // 2)

    record_ladder = comparison.new_run(
        "bench.features.explain.ladder:record_ladder", "ladder", ends[-1], "the ladder", ladder=ladder
    )
    return DecompositionRuns(comparison, record_ladder, runs_of_round)


def rounds_that_fit(seconds_left: float, seconds_of_pair: float) -> int:
    """Return how many rounds fit into a time, in pairs of one of all configurations and one of the two ends."""
    return 2 * max(0, int(seconds_left / max(seconds_of_pair, 1e-3)))


def get_recipe_experiment(name: str, recipe: Recipe) -> Experiment:
    """Return a named experiment's recipe; ValueError lists the experiments that have one."""
    ending = ENDINGS[recipe]
    if f"{name}-{ending}" not in EXPERIMENTS:
        others = [one.removesuffix(f"-{ending}") for one in EXPERIMENTS if one.endswith(f"-{ending}")]
        raise ValueError(f"{name} has no {recipe} recipe (experiments with one: {', '.join(others)})")
    return EXPERIMENTS[f"{name}-{ending}"]


def plan_ladder(
    first: Experiment, baseline: Experiment, chosen: Sequence[str], *, factorial: bool, on_gpu: bool
) -> tuple[Ladder, list[Experiment]]:
    """Return the ladder from `baseline` to `first` and its configurations; ValueError if there is none.

    Factors that a tower refuses are left out with the tower's reason; torch is imported to ask it.
    """
    from models.text_tower import why_padding_is_needed

    padding_reason = why_padding_is_needed(baseline.text.text_tower) if needs_padding_stage(baseline, first) else None
    factors, left_out = select_factors(baseline, first, chosen, on_gpu=on_gpu)
    left_out |= {PADDING: padding_reason} if padding_reason else {}
    refusals = {
        one.name: reason for one in factors if (reason := _reason_tower_cannot_be_built(first, one)) is not None
    }
    factors = [factor for factor in factors if factor.name not in refusals]
    stages = stages_between(baseline, first, padding_reason, factors)
    ladder, configurations = build_ladder(stages, factors, factorial=factorial, pace=first)
    return structs.replace(ladder, left_out=left_out | refusals), configurations


def _reason_tower_cannot_be_built(first: Experiment, factor: Factor) -> str | None:
    """Return the reason why a tower cannot be built with a factor's values, or None."""
    from bench.measure.costs import build_on_meta

    if factor.field not in TOWER_FIELDS:
        return None
    try:
        for value in (factor.before, factor.after):
            if (changed := with_settings(first, [value])) is not first:
                build_on_meta(changed)
    except ValueError as error:
        return str(error)
    return None


def expected_ratios(first: Experiment, baseline: Experiment) -> tuple[ExpectedRatio, ...]:
    """Return the FLOP-predicted ratios of a pair of recipes, and the published ratio."""
    from bench.measure.costs import forward_flops_as_released

    def counted(what: str, **changes: tuple[int, ...]) -> ExpectedRatio:
        flops = [forward_flops_as_released(change(one, **changes)) for one in (baseline, first)]
        source = "counted: image tower, captions padded to their context, head"
        return ExpectedRatio(what=what, ratio=flops[0] / flops[1], source=source)

    ratios = counted("FLOPs alone, one image size", image_sizes=()), counted("FLOPs alone, the recipes' image sizes")
    if (baseline.method, first.method) != HEADLINE or first.image.tower not in PUBLISHED_HOURS:
        return ratios
    published = 1 / PUBLISHED_HOURS[first.image.tower]
    return (*ratios, ExpectedRatio(what="published", ratio=published, source=PUBLISHED_SOURCE))
