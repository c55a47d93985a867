"""Other people's training code beside ours: the same model, weights, batches and rates, in turn, in fresh processes."""

import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from statistics import median

from msgspec.structs import replace
from tyro.conf import Positional

from bench.cli.options import Json, Results, Settings
from bench.config import AT_LARGEST_BATCH, Experiment, at_batch_size, with_settings
from bench.console.exit_codes import DISAGREEMENT, FAILED_CASE, OK
from bench.console.tables import Table, show
from bench.experiments import EXPERIMENTS, experiment_named
from bench.measure.tables import failure_table
from bench.orchestration.comparison import Scope, rounds_for
from bench.orchestration.duration_estimates import START_SECONDS
from bench.orchestration.preflight import begin, has_gpu
from bench.orchestration.requests import PeerRequest
from bench.recipes import DATACOMP_SYNSETS
from bench.record import PeerRun, Record
from bench.reference.sides import OURS, SIDES, Against
from bench.statistics import ratios_of, spread_of

EQUAL_LOSSES, STEPS_COMPARED = 1e-4, 20  # of a loss, over the first steps: rounding grows with training
LONGER = 3  # how many times as many windows the first round has: 20 steps for open-clip
STEP_SECONDS = 3.0  # a guess for two cores, corrected as runs end
BATCHES, DENSE_WINDOW = (8, 64, 256), 1024  # of dense-bce, in images: a window is a second or more


@dataclass(frozen=True, slots=True)
class Peer:
    """Race other people's training code: the same model, weights, batches and rates; their loop and ours in turn.

    open-clip: `open_clip_train`'s own loop, as it is and with fused AdamW, on captions as long as the web's. dense-bce:
    CatLIP's loss over dense int64 targets, as its released code makes them, at 24,320 classes; they are made within the
    clock, where the released code has loader workers, and captions are labelled before it on both sides.
    """

    against: Positional[Against]
    name: str = "clip-vit-b32"  # the experiment of open-clip, at a batch of 8
    rounds: int | None = (
        None  # of fresh processes; by default ten, or the fewest that can call every ratio; on a GPU five
    )
    settings: Settings = ()
    results: Results = Path("results")
    json: Json = None
    how_to_go_on = "finished records are kept in the results folder"

    def run(self) -> int:
        """Race, then print the ratios and whether the losses were the same."""
        if self.against == "open-clip" and find_spec("open_clip_train") is None:
            print("skipped: open_clip_train is not installed (it comes with open_clip_torch 3.3)", file=sys.stderr)
            return OK
        sides = SIDES[self.against]
        experiments = [with_settings(experiment, self.settings) for experiment in self._experiments()]
        if any(experiment.image_sizes for experiment in experiments):
            raise ValueError("a race is run at one image size, not at image_sizes")
        rounds = self.rounds or rounds_for(len(sides) - 1, on_gpu=has_gpu())
        comparison = begin(self.results, experiments, Scope("peer", 0), trained=False, may_differ=AT_LARGEST_BATCH)
        races = []
        for round_ in range(rounds):
            for experiment in experiments:
                jobs = []
                lasting = replace(experiment, windows=experiment.windows * (1 if round_ else LONGER))
                for side in sides[:: -1 if round_ % 2 else 1]:
                    label = f"{experiment.name}, {side}, round {round_ + 1} of {rounds}"
                    expected = START_SECONDS + STEP_SECONDS
                    jobs.append(comparison.job(PeerRequest, lasting, label, expected, side=side, round=round_))
                races.append(jobs)
        comparison.runner.progress.expect(sum(job.expected_seconds for jobs in races for job in jobs))
        for jobs in races:
            comparison.run_round(jobs)
        records = comparison.records()
        losses = loss_rows(records)
        show(
            [speed_table(records, sides), Table("Losses of the first round", losses), failure_table(records)], self.json
        )
        if comparison.runner.failures:
            return FAILED_CASE
        return OK if all(row["equal"] == "yes" for row in losses) else DISAGREEMENT

    def _experiments(self) -> list[Experiment]:
        if self.against == "open-clip":
            named = experiment_named(self.name)
            if named.method != "clip":
                raise ValueError(f"open_clip_train is raced with a clip experiment, {self.name} is {named.method}")
            return [replace(named, batch_size=8, clip_norm=None, windows=2, steps_per_window=3)]
        wide = replace(EXPERIMENTS["catlip-tiny"], name="catlip-tiny-24k", head_rows=DATACOMP_SYNSETS)
        return [
            replace(at_batch_size(wide, size), windows=3, steps_per_window=max(2, DENSE_WINDOW // size))
            for size in BATCHES
        ]


def speed_table(records: Sequence[Record], sides: Sequence[str]) -> Table:
    """Compare the sides' images a second, experiment by experiment, with the first side's."""
    rows = []
    for name, runs in _by_experiment(records).items():
        rates = {side: {r: rate for (of, r), (rate, _) in runs.items() if of == side} for side in sides}
        timed = {side: rounds for side, rounds in rates.items() if rounds}
        base = sides[0]
        ratios = ratios_of(timed[base], {s: r for s, r in timed.items() if s != base}) if base in timed else {}
        for side, rounds in timed.items():
            ratio, one = ratios.get(side), next(run for (of, _), (_, run) in runs.items() if of == side)
            rows.append(
                {
                    "experiment": name,
                    "side": side,
                    "runs": len(rounds),
                    "images/s": median(rounds.values()),
                    "spread": spread_of(rounds),
                    "ratio": ratio and ratio.value,
                    "low": ratio and ratio.low,
                    "high": ratio and ratio.high,
                    "p": ratio and ratio.p,
                    "verdict": ratio and ratio.verdict,
                    "tokens": one.tokens_per_caption,
                    "target bytes": one.target_bytes_per_image,
                }
            )
    note = (
        f"ratio: images/s over those of {sides[0]}, with its 95 % interval over runs (fresh processes, in turn).\n"
        "tokens: computed for each caption. target bytes: of label targets, handed to the device for each image."
    )
    return Table(f"Beside {sides[0]}", rows, note)


def loss_rows(records: Sequence[Record]) -> list[dict[str, str | int | float]]:
    """Say how far apart the sides' losses lie in the first steps of the first round."""
    rows: list[dict[str, str | int | float]] = []
    for name, runs in _by_experiment(records).items():
        losses = {side: run.losses[:STEPS_COMPARED] for (side, round_), (_, run) in runs.items() if round_ == 0}
        ours = losses.pop(OURS, ())
        for side, theirs in losses.items():
            apart = max((abs(a - b) / abs(a) for a, b in zip(theirs, ours, strict=False)), default=float("inf"))
            is_equal = apart <= EQUAL_LOSSES and len(ours) == len(theirs)
            rows.append(
                {
                    "experiment": name,
                    "against": side,
                    "steps": len(theirs),
                    "first": theirs[0],
                    "last": theirs[-1],
                    "largest difference, relative": apart,
                    "equal": "yes" if is_equal else "no",
                }
            )
    return rows


def _by_experiment(records: Sequence[Record]) -> dict[str, dict[tuple[str, int], tuple[float, PeerRun]]]:
    """Return rate and run by side and round, for each experiment."""
    found: dict[str, dict[tuple[str, int], tuple[float, PeerRun]]] = defaultdict(dict)
    for record in records:
        if isinstance(record.measured, PeerRun) and record.experiment is not None:
            run = record.measured
            rate = record.experiment.images_per_window / median(run.window_seconds)
            found[record.experiment.name][run.side, run.round] = (rate, run)
    return found
