"""The verb `explain`: a ratio taken apart into its causes, and the proof that they make it."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Annotated, Literal

from msgspec import structs
from tyro.conf import Positional, arg

from bench.cli.options import Json, Results, Settings
from bench.config import FIELDS, Experiment, with_settings
from bench.console.exit_codes import DISAGREEMENT, FAILED_CASE, INCONCLUSIVE, OK
from bench.console.tables import show
from bench.experiments import EXPERIMENTS, experiment_named
from bench.explain.decomposition import explained
from bench.explain.factors import factors_of
from bench.explain.tables import cause_table, line_table, side_by_side
from bench.ladder import CLASSIFYING, PADDING, PAIRED, Factor, Ladder, Line, build, rungs_between
from bench.measure.tables import failure_table
from bench.orchestration.comparison import Comparison, Scope
from bench.orchestration.duration_estimates import START_SECONDS
from bench.orchestration.preflight import begin, cores, has_gpu
from bench.orchestration.requests import LadderRequest
from bench.orchestration.runner import Job
from bench.recipes import PUBLISHED_HOURS, PUBLISHED_SOURCE
from bench.record import read_record
from bench.statistics import Agreement

Recipe = Literal["published", "controlled"]
ENDINGS: dict[Recipe, str] = {"published": "datacomp", "controlled": "controlled"}
OF_THE_PUBLISHED = ("kernel", "columns")  # what CLIP's released run had that no field of its recipe says
NOT_PUBLISHED_HERE = {
    "fp16": "CLIP was released in fp16, CatLIP in bf16: here both are in one precision",
    "communication": "one process exchanges nothing: captions of others are simulated, gradients stay where they are",
}
FEWEST_ROUNDS = 2  # one of the parts, one of the whole
CPU_CORE_FLOPS, GPU_FLOPS = 5e10, 1e14  # a second, to guess how long runs take; corrected as they end
ASKED_OF_TOWERS = ("image_size", "image_sizes", "patch_drop", "activation_checkpointing")  # fields that some refuse
# From good to bad: of two explanations the worse counts.
EXIT_CODES: dict[Agreement, int] = {"agree": OK, "inconclusive": INCONCLUSIVE, "disagree": DISAGREEMENT}


@dataclass(frozen=True, slots=True)
class Explain:
    """Take the ratio of two experiments apart into its causes, and prove that they make it.

    Half of the rounds time every cell of a ladder, the other half its two ends alone. Exits with 1 where the product of
    the parts and the whole disagree, with 4 where the interval between them is too wide to tell. A cell that is
    wrong cancels in the product: it shows where a part is not what FLOPs say.
    """

    name: Positional[str]
    against: Annotated[str, arg(help="the experiment that the ladder begins at, its captions padded")]
    recipe: Annotated[
        tuple[Recipe, ...], arg(help="of both: each as published, CatLIP's for both, or one after the other")
    ] = ()
    factors: Annotated[
        tuple[str, ...],
        arg(help="kernel, precision, compile, checkpointing, sampler, batch, columns; or FIELD=VALUE at the beginning"),
    ] = ()
    combinations: bool = False  # of at most four factors: what each changes then depends on no order
    rounds: int = 10  # of fresh processes, half for the parts and half for the whole
    resume: bool = False  # go on with the newest explanation; what is recorded is not run again
    settings: Settings = ()
    results: Results = Path("results")
    json: Json = None
    how_to_go_on = "finished runs are kept; go on with the same command and --resume"

    def run(self) -> int:
        """Plan, measure, judge."""
        if self.rounds < FEWEST_ROUNDS:
            raise ValueError(f"--rounds must be at least {FEWEST_ROUNDS}, got {self.rounds}")
        recipes: Sequence[Recipe | None] = [*dict.fromkeys(self.recipe)] or [None]
        plans = {recipe: self._planned(recipe) for recipe in recipes}  # all, before anything is run
        begun = [self._begin(recipe, *plan) for recipe, plan in plans.items()]
        comparison, rounds = begun[0][0], [jobs for _, of_one in begun for jobs in of_one]
        runner = comparison.runner
        runner.progress.expect(sum(job.expected_seconds for jobs in rounds for job in jobs))
        for jobs in rounds:
            comparison.run_round(jobs)
        records = [comparison.records() for comparison, _ in begun]
        found = {
            recipe or self.name: one for recipe, of in zip(recipes, records, strict=True) if (one := explained(of))
        }
        beside = [side_by_side(found)] if len(found) > 1 else [line_table(one) for one in found.values()]
        show([*map(cause_table, found.values()), *beside, failure_table([*chain.from_iterable(records)])], self.json)
        if runner.failures or len(found) < len(begun):
            return FAILED_CASE
        return EXIT_CODES[max((one.verdict for one in found.values()), key=[*EXIT_CODES].index)]

    def _planned(self, recipe: Recipe | None) -> tuple[Ladder, list[Experiment]]:
        named = [experiment_named(name) for name in (self.name, self.against)]
        if recipe is not None:
            named = [recipe_of(one.name, recipe) for one in named]
        first, against = (with_settings(one, self.settings) for one in named)
        chosen = (*OF_THE_PUBLISHED, *self.factors) if recipe == "published" else self.factors
        ladder, cells = planned(first, against, chosen, combinations=self.combinations, on_gpu=has_gpu())
        if recipe is not None:
            ladder = structs.replace(ladder, lines=lines_of(*named))
        if recipe == "published":
            ladder = structs.replace(ladder, left_out=ladder.left_out | NOT_PUBLISHED_HERE)
        return ladder, cells

    def _begin(
        self, recipe: Recipe | None, ladder: Ladder, cells: Sequence[Experiment]
    ) -> tuple[Comparison, Sequence[Sequence[Job]]]:
        """Record what the runs are for, and return them round by round."""
        ends = [cells[0], cells[len(ladder.chain) - 1]]
        scope = Scope("explain" if recipe is None else f"explain-{recipe}", 0)
        comparison = begin(self.results, cells, scope, resume=self.resume, trained=False, may_differ=FIELDS)
        _record(comparison, ladder, ends[-1])
        rounds = _rounds(comparison, cells, ends, self.rounds)
        runs, minutes = sum(map(len, rounds)), sum(job.expected_seconds for jobs in rounds for job in jobs) / 60
        told = f"{len(cells)} cells, {runs} runs: about {max(1, round(minutes))} min, corrected as they end"
        print(told, file=sys.stderr)
        return comparison, rounds


def recipe_of(name: str, recipe: Recipe) -> Experiment:
    """Return a named experiment's recipe; ValueError tells which there are."""
    ending = ENDINGS[recipe]
    if f"{name}-{ending}" not in EXPERIMENTS:
        there = [one.removesuffix(f"-{ending}") for one in EXPERIMENTS if one.endswith(f"-{ending}")]
        raise ValueError(f"{name} has no {recipe} recipe (there are of {', '.join(there)})")
    return EXPERIMENTS[f"{name}-{ending}"]


def planned(
    first: Experiment, against: Experiment, chosen: Sequence[str], *, combinations: bool, on_gpu: bool
) -> tuple[Ladder, list[Experiment]]:
    """Return the ladder from one experiment to another, and its cells; torch is asked what towers can do.

    ValueError for a pair or factors that have none.
    """
    from models.text_tower import why_padded

    is_text = against.method in PAIRED and first.method in CLASSIFYING
    padded_because = why_padded(against.text_tower) if is_text else None
    factors, left_out = factors_of(against, first, chosen, on_gpu=on_gpu)
    left_out |= {PADDING: padded_because} if padded_because else {}
    can = []
    for factor in factors:
        if (reason := _cannot(first, factor)) is None:
            can.append(factor)
        else:
            left_out[factor.name] = reason
    rungs = rungs_between(against, first, padded_because, can)
    ladder, cells = build(rungs, can, whole=combinations, pace=first)
    return structs.replace(ladder, left_out=left_out), cells


def _cannot(first: Experiment, factor: Factor) -> str | None:
    """Say why an experiment cannot be built as a factor wants it, before or after."""
    from bench.measure.flops import on_meta

    if factor.field not in ASKED_OF_TOWERS:
        return None
    try:
        for told in (factor.before, factor.after):
            if (changed := with_settings(first, [told])) is not first:
                on_meta(changed)
    except ValueError as error:
        return str(error)
    return None


def lines_of(first: Experiment, against: Experiment) -> tuple[Line, ...]:
    """Return what FLOPs alone say of a pair of recipes, and what was published of them."""
    from bench.measure.costs import released_flops

    def ratio(**changes: tuple[int, ...]) -> float:
        costs = [released_flops(structs.replace(one, **changes)) for one in (against, first)]
        return costs[0] / costs[1]

    counted = "counted: image tower, captions padded to their context, head"
    published = Line(what="published", ratio=1 / PUBLISHED_HOURS, source=PUBLISHED_SOURCE)
    return (
        Line(what="FLOPs alone, one image size", ratio=ratio(image_sizes=()), source=counted),
        Line(what="FLOPs alone, the recipes' image sizes", ratio=ratio(), source=counted),
        *([published] if (against.method, first.method) == ("clip", "catlip") else []),
    )


def expected_seconds(cells: Sequence[Experiment], *, on_gpu: bool) -> dict[str, float]:
    """Guess how long a run of each cell takes, by its FLOPs."""
    from bench.measure.costs import costs_of

    device_flops = GPU_FLOPS if on_gpu else CPU_CORE_FLOPS * cores()
    of_rungs = {(cell.method, cell.text_features): cell for cell in cells}
    costs = {rung: costs_of(cell) for rung, cell in of_rungs.items()}

    def seconds(cell: Experiment) -> float:
        of = costs[cell.method, cell.text_features]
        steps = cell.warmup_steps + (cell.windows + 1) * cell.steps_per_window
        return START_SECONDS + 3 * steps * cell.mean_batch_size * (of.image_flops + of.text_flops) / device_flops

    return {cell.name: seconds(cell) for cell in cells}


def _record(comparison: Comparison, ladder: Ladder, last: Experiment) -> None:
    """Write what the runs are for; ValueError where those to go on with were for something else."""
    job = comparison.job(LadderRequest, last, "the ladder", START_SECONDS, ladder=ladder)
    if job.is_done and read_record(job.request.paths[0]).measured != ladder:
        raise ValueError(f"{comparison.name} explains something else: begin a new explanation, without --resume")
    comparison.runner.progress.expect(job.expected_seconds)
    comparison.runner.run([job], threads=comparison.cores)


def _rounds(
    comparison: Comparison, cells: Sequence[Experiment], ends: Sequence[Experiment], rounds: int
) -> list[list[Job]]:
    """Return the runs of each round: all cells in rounds of even number, the ends in those of odd number."""
    seconds = expected_seconds(cells, on_gpu=comparison.on_gpu)
    return [
        [
            replace(job, expected_seconds=seconds[job.request.experiment.name])
            for job in comparison.round_of(ends if round_ % 2 else cells, round_, rounds, round_ // 2)
        ]
        for round_ in range(rounds)
    ]
