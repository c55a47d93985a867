"""The verb `reference`: compares this project's training speed and losses with reference implementations."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import chain, product
from pathlib import Path
from statistics import fmean, median
from typing import Annotated, Any, ClassVar, Literal

from tyro.conf import Positional, arg

from bench.cli.options import Data, Json, MaxMinutes, Results, Rounds, Settings, print_results, set_deadline
from bench.console.console import DISAGREEMENT, OK, log
from bench.console.options import MINUTES_RANGE, ROUNDS_RANGE, require_range
from bench.data.caption_lengths import WEB
from bench.experiment.config import FIELDS, MAY_DIFFER_AT_LARGEST_BATCH, Experiment, change
from bench.experiment.experiments import EXPERIMENTS, get_experiment
from bench.experiment.recipes import DATACOMP_SYNSETS
from bench.experiment.settings import with_batch_size, with_settings
from bench.features.reference import (
    CHECKOUTS,
    EQUAL_STEPS,
    OPEN_CLIP_CHECKOUT,
    OPEN_CLIP_CHECKOUT_SIDES,
    OURS,
    SIDES,
    ReferenceName,
)
from bench.features.reference.released_run import ReleasedPlan, released_tables
from bench.features.reference.requests import ReferenceRequest
from bench.features.reference.speeds import describe_clip_costs, runs_by_experiment
from bench.measure.tables import ratio_columns
from bench.orchestration.comparison import Comparison
from bench.orchestration.pace import Pace
from bench.orchestration.preflight import has_gpu, open_comparison
from bench.orchestration.runner import Job, expected_job_seconds
from bench.orchestration.scope import Scope, default_rounds
from bench.records.record import Record
from bench.statistics.ratios import log_std, ratios_of
from bench.tables.tables import Table

# Relative difference of losses over the first steps, by precision: rounding grows with training.
EQUAL_LOSSES, STEPS_COMPARED = {"fp32": 1e-4, "bf16": 1e-2, "fp16": 1e-2}, 20
FIRST_ROUND_FACTOR = 3  # factor of the number of windows in the first round: 20 steps, but for dense-bce
LOSSES_NOTE = (
    "steps: first ones with equal batches, whose losses are compared. mean: of a step with each batch, all over the\n"
    "same images; not comparable where a side makes other batches, because a contrastive loss depends on the batch."
)
BATCHES, DENSE_WINDOW = (8, 64, 256), 1024  # images per step and per window of dense-bce: windows of a second or more
PLAIN: dict[str, Any] = {
    "caption_lengths": WEB,
    "batch_size": 8,
    "clip_norm": None,
    "windows": 2,
    "steps_per_window": 3,
}  # of other code
GPU_WINDOWS = {"windows": 3, "steps_per_window": 40}  # of a second or so, with the losses that are compared
CheckoutScale = Literal["tiny", "vit-b16", "vit-h16"]
CORENET_TOWERS = {"tiny": "corenet-vit-small", "vit-b16": "corenet-vit-base"}  # CoreNet's own "tiny" has dropout


@dataclass(frozen=True, slots=True)
class Reference:
    """Compare training speed and losses with a reference implementation, interleaved in fresh processes.

    All sides use the same model, weights, batches and learning rates. open-clip: the loop of `open_clip_train`, as
    released and with fused AdamW, on captions of web length; on a GPU all sides eager, and all compiled. A checkout of
    open_clip's main branch adds its loop, with its defaults and with bucketing (batches of captions of similar
    length, fused AdamW), over the same images. dense-bce:
    CatLIP's loss on dense int64 targets of 24,320 classes, as in its released code; the targets are built inside the
    timed window (the released code uses loader workers), and captions are labelled before it on both sides. corenet,
    superclass: the authors' CLIP and CatLIP, or SuperClass, in fp32, from a checkout of their code, which child
    processes execute. RangeAugment, the moving average of the weights, checkpointing and clipping are off; batches are
    made before the timed window. corenet --as-released: the authors' own training loop with their files of CLIP and
    CatLIP, unchanged and without a side of ours; with --data their images are loaded from tar shards while it runs. On
    a CPU it runs at the scale tiny, whose changes are listed.
    """

    reference: Positional[ReferenceName]  # name of the reference implementation
    # name of the CLIP experiment to compare with open-clip, at a batch of 8; default clip-vit-b32
    name: str | None = None
    checkout: Annotated[
        Path | None, arg(metavar="PATH", help="folder of the checkout for corenet, superclass or open-clip")
    ] = None
    # scale of the experiments to compare with a checkout, at a batch of 8; default vit-b16. With --as-released: size of
    # the authors' files, vit-b16 or vit-h16, or tiny, the default on a CPU
    scale: CheckoutScale | None = None
    as_released: bool = False  # run corenet's own training loop with the authors' files; every key is listed
    data: Data = None
    rounds: Rounds = None
    resume: bool = False  # resume the newest comparison with a reference; recorded runs are not repeated
    max_minutes: MaxMinutes = None
    settings: Settings = ()
    results: Results = Path("results")
    json: Json = None
    purpose: ClassVar[str] = "compare"
    resume_hint = "finished records are kept; resume with the same command and --resume"

    def run(self) -> int:
        """Run the rounds, then print the ratios and compare the losses."""
        start = time.monotonic()
        self._require_used_options()
        if self.reference == "open-clip" and find_spec("open_clip_train") is None:
            log("skipped: open_clip_train is not installed; install open_clip_torch 3.3")
            return OK
        checkout = CHECKOUTS.get(self.reference)
        if checkout and self.checkout is None:
            log(f"skipped: {self.reference} needs --checkout PATH, a `git clone {checkout.url}`")
            return OK
        require_range("rounds", self.rounds, *ROUNDS_RANGE)
        require_range("max-minutes", self.max_minutes, *MINUTES_RANGE)
        path = str(self.checkout.resolve()) if self.checkout else ""
        required = checkout or (OPEN_CLIP_CHECKOUT if path else None)
        if required and not required.matches_folder(Path(path)):
            raise ValueError(f"{path} has no {required.file}: --checkout needs a `git clone {required.url}`")
        if self.as_released:
            released = self._released(on_gpu=has_gpu())
            released.require_files(Path(path))
            comparison = self._open([*released.experiments.values()], FIELDS, may_measure_pace=not released.is_tiny)
            self._run_rounds(comparison, released.jobs_by_round(comparison, self.rounds, path), start)
            return print_results(comparison, released_tables(comparison.records()), self.json)
        sides, experiments = self._sides, self._plan(on_gpu=has_gpu())
        comparison = self._open(experiments, (*MAY_DIFFER_AT_LARGEST_BATCH, "compile"))
        self._run_rounds(comparison, self._rounds(comparison), start)
        records = comparison.records()
        losses = compare_early_losses(records)
        tables = [
            reference_speed_table(records, sides),
            Table.of_figures("Losses of the first round", losses, LOSSES_NOTE),
        ]
        if checkout:
            if len(experiments) > 1:
                tables.append(method_ratio_table(records, sides, *(experiment.name for experiment in experiments)))
            tables.append(phase_table(records, checkout.unused))
        are_equal = all(row["equal"] == "yes" for row in losses)
        return print_results(comparison, tables, self.json) or (OK if are_equal else DISAGREEMENT)

    def expected_seconds(self, pace: Pace) -> float:
        """Return the expected seconds of all rounds of all sides."""
        self._require_used_options()
        if self.as_released:
            released = self._released(on_gpu=pace.on_gpu)
            comparison = Comparison.for_planning([*released.experiments.values()], pace)
            return pace.command_seconds + expected_job_seconds(released.jobs_by_round(comparison, self.rounds, ""))
        rounds = self._rounds(Comparison.for_planning(self._plan(on_gpu=pace.on_gpu), pace))
        return pace.command_seconds + expected_job_seconds(rounds)

    def _open(
        self, experiments: Sequence[Experiment], may_differ: Iterable[str], *, may_measure_pace: bool = True
    ) -> Comparison:
        return open_comparison(
            self.results,
            experiments,
            Scope("reference", 0),
            resume=self.resume,
            trained=False,
            may_differ=may_differ,
            scored=map(with_first_round_windows, experiments),
            may_measure_pace=may_measure_pace,
        )

    def _run_rounds(self, comparison: Comparison, rounds: Sequence[Sequence[Job]], start: float) -> None:
        comparison.runner.progress.expect(expected_job_seconds(rounds))
        set_deadline(comparison, self.max_minutes, start)
        for jobs in rounds:
            comparison.run_round(jobs)

    def _released(self, *, on_gpu: bool) -> ReleasedPlan:
        settings = [*([] if self.data is None else [f"data={self.data}"]), *self.settings]
        return ReleasedPlan.of_scale(self.scale, settings, on_gpu=on_gpu)

    @property
    def _sides(self) -> tuple[str, ...]:
        is_open_clip = self.reference == "open-clip" and self.checkout
        return OPEN_CLIP_CHECKOUT_SIDES if is_open_clip else SIDES[self.reference]

    def _plan(self, *, on_gpu: bool) -> list[Experiment]:
        """Return the experiments that all sides train; ValueError for one that they cannot."""
        require_range("rounds", self.rounds, *ROUNDS_RANGE)
        bases = self._experiments(on_gpu=on_gpu)
        experiments = [one for base in bases for one in self._eager_and_compiled(base, on_gpu=on_gpu)]
        if any(experiment.image.image_sizes for experiment in experiments):
            raise ValueError("a comparison with a reference needs one image size: leave image_sizes empty")
        return experiments

    def _rounds(self, comparison: Comparison) -> list[list[Job]]:
        """Return the jobs of every round of each experiment; the first round is longer, for the losses."""
        sides, rounds = self._sides, list[list[Job]]()
        path = str(self.checkout.resolve()) if self.checkout else ""
        count = self.rounds or default_rounds(on_gpu=comparison.on_gpu)
        for round_, experiment in product(range(count), comparison.experiments):
            # A checkout of open_clip needs the images of many batches in every run; a GPU's windows have enough.
            is_short = comparison.on_gpu or (round_ and sides != OPEN_CLIP_CHECKOUT_SIDES)
            longer = experiment if is_short else with_first_round_windows(experiment)
            seconds, jobs = comparison.pace.speed_run_seconds(longer, is_first=round_ == 0), list[Job]()
            for side in sides[:: -1 if round_ % 2 else 1]:
                label = f"{experiment.name}, {side}, round {round_ + 1} of {count}"
                fields = {"side": side, "round": round_, "checkout": path}
                jobs.append(comparison.new_job(ReferenceRequest, longer, label, seconds, **fields))
            rounds.append(jobs)
        return rounds

    def _require_used_options(self) -> None:
        users = {
            "name": ["open-clip"],
            "checkout": [*CHECKOUTS, "open-clip"],
            "scale": CHECKOUTS,
            "as_released": ["corenet"],
            "data": ["corenet"],
        }
        for option, names in users.items():
            if getattr(self, option) not in (None, False) and self.reference not in names:
                given = f"--{option.replace('_', '-')}"
                raise ValueError(f"{given} is for {' or '.join(names)}, not for {self.reference}: leave it out")
        if self.data is not None and not self.as_released:
            raise ValueError("--data needs --as-released; without it the images are those of the shipped pack")
        changed = [one for one in self.settings if self.data is None or not one.startswith("workers=")]
        if self.as_released and changed:
            remedy = "leave it out (with --data, workers=N may be set)"
            raise ValueError(f"--as-released changes no setting, got --set {changed[0]}: {remedy}")
        if self.scale == "vit-h16" and not self.as_released:
            raise ValueError("--scale vit-h16 needs --as-released; without it the scale is tiny or vit-b16")

    def _eager_and_compiled(self, base: Experiment, *, on_gpu: bool) -> list[Experiment]:
        """Return the experiment with the settings; on a GPU, unless they choose, without and with compilation."""
        experiment = with_settings(base, self.settings)
        if self.reference != "open-clip" or experiment.runtime.compile != "auto" or not on_gpu:
            return [experiment]
        return [with_settings(base, [*self.settings, f"compile={choice}"]) for choice in ("off", "on")]

    def _experiments(self, *, on_gpu: bool) -> list[Experiment]:
        plain = PLAIN | (GPU_WINDOWS if on_gpu else {})
        if self.reference == "open-clip":
            experiment = get_experiment(self.name or "clip-vit-b32")
            if experiment.method != "clip":
                offered = f"{experiment.name} has {experiment.method}"
                raise ValueError(f"open-clip is compared with an experiment of the method clip; {offered}")
            return [change(experiment, **plain)]
        if checkout := CHECKOUTS.get(self.reference):
            is_corenet, scale = self.reference == "corenet", self.scale or "vit-b16"
            own = {"tower": CORENET_TOWERS[scale]} if is_corenet else {"subword_vocabulary": "all"}
            fields = {**plain, **own, "precision": "fp32", "compile": "off"}
            named = [EXPERIMENTS[f"{method}-{scale}"] for method in checkout.methods]
            return [change(one, name=f"{one.name}-{self.reference}", **fields) for one in named]
        wide = change(EXPERIMENTS["catlip-tiny"], name="catlip-tiny-24k", head_rows=DATACOMP_SYNSETS, windows=3)
        steps = {size: max(2, DENSE_WINDOW // size) for size in BATCHES}
        return [change(with_batch_size(wide, size), steps_per_window=number) for size, number in steps.items()]


def with_first_round_windows(experiment: Experiment) -> Experiment:
    """Return the experiment with the windows of the first round."""
    return change(experiment, windows=experiment.timing.windows * FIRST_ROUND_FACTOR)


def reference_speed_table(records: Sequence[Record], sides: Sequence[str]) -> Table:
    """List each side's images per second, and its ratio to the first side's, for each experiment."""
    rows = []
    for name, runs in runs_by_experiment(records).items():
        rates = {side: {round_: rate for round_, (rate, _) in runs[side].items()} for side in sides if side in runs}
        others = {side: rounds for side, rounds in rates.items() if side != sides[0]}
        ratios = ratios_of(rates[sides[0]], others) if sides[0] in rates else {}
        for side, rounds in rates.items():
            _, run = next(iter(runs[side].values()))
            row = {"experiment": name, "side": side, "runs": len(rounds), "images/s": median(rounds.values())}
            row |= {"spread": log_std(rounds)} | ratio_columns(ratios.get(side))
            rows.append(row | {"tokens": run.tokens_per_caption, "target bytes": run.target_bytes_per_image})
    note = (
        f"ratio: images/s over those of {sides[0]}, with its 95 % interval over runs (fresh processes, interleaved).\n"
        "tokens: computed per caption. target bytes: of label targets, copied to the device per image."
    )
    return Table.of_figures(f"Compared with {sides[0]}", rows, "\n".join([note, *describe_clip_costs(records)]))


def method_ratio_table(records: Sequence[Record], sides: Sequence[str], base: str, name: str) -> Table:
    """List for each side the ratio of an experiment's images per second to those of the experiment `base`."""
    runs, rows = runs_by_experiment(records), []
    for side in sides:
        both = [runs.get(one, {}).get(side, {}) for one in (base, name)]
        rates = [{round_: rate for round_, (rate, _) in one.items()} for one in both]
        ratio = ratios_of(rates[0], {name: rates[1]})[name] if all(rates) else None
        rows.append({"side": side} | ratio_columns(ratio))
    return Table.of_figures(f"{name}, images/s over those of {base}", rows)


def phase_table(records: Sequence[Record], replaceable_packages: Sequence[str]) -> Table:
    """List the milliseconds of each phase of a step, and the packages that were replaced by empty ones."""
    rows = []
    for name, sides in runs_by_experiment(records).items():
        for side, rounds in sides.items():
            phases = [run.phase_seconds for _, run in rounds.values()]
            step = {phase: 1000 * median(chain(*(one[phase] for one in phases))) for phase in phases[0]}
            rows.append({"experiment": name, "side": side} | step)
    missing = [package for package in replaceable_packages if find_spec(package) is None]
    note = f"empty packages stood in for those not installed, which no step uses: {', '.join(missing) or 'none'}"
    return Table.of_figures("Milliseconds of each phase of a step, the device idle between them", rows, note)


def compare_early_losses(records: Sequence[Record]) -> list[dict[str, str | int | float]]:
    """Compare the sides' losses over the first steps of the first round whose batches are equal.

    The mean losses are of a step with each batch: of the same images, but in other batches on a side of `EQUAL_STEPS`.
    """
    rows: list[dict[str, str | int | float]] = []
    bounds = {one.experiment.name: EQUAL_LOSSES[one.circumstances.precision] for one in records if one.experiment}
    for name, runs in runs_by_experiment(records).items():
        losses = {side: rounds[0][1].losses for side, rounds in runs.items() if 0 in rounds}
        all_ours = losses.pop(OURS, ())
        for side, all_theirs in losses.items():
            steps = EQUAL_STEPS.get(side, STEPS_COMPARED)
            ours, theirs = all_ours[:steps], all_theirs[:steps]
            difference = max((abs(a - b) / abs(a) for a, b in zip(theirs, ours, strict=False)), default=float("inf"))
            is_equal = difference <= bounds[name] and len(ours) == len(theirs)
            row: dict[str, str | int | float] = {"experiment": name, "reference": side}
            row |= {"steps": len(theirs), "first": theirs[0], "last": theirs[-1]}
            row |= {"largest difference, relative": difference, "equal": "yes" if is_equal else "no"}
            rows.append(row | {"mean": fmean(all_theirs), "mean of ours": fmean(all_ours) if all_ours else ""})
    return rows
