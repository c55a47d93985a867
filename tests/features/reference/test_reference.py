"""Both sides of a comparison do the same: equal losses from equal weights, and it says so where they do not."""

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
import torch
from msgspec.structs import replace

from bench.data.released_labels import make_multi_hot
from bench.data.targets import Labels
from bench.environment.circumstances import CHECKOUT
from bench.experiment.config import Experiment, change
from bench.experiment.experiments import EXPERIMENTS
from bench.features.reference import DENSE, OPEN_CLIP, OURS, SIDES, WARMUP_STEPS
from bench.features.reference.records import ReferenceRun
from bench.features.reference.runs import run_side
from bench.features.reference.timing import (
    MAX_COMPILED_WINDOWS,
    RAMP_STEPS,
    WindowTimer,
    batch_number,
    reference_learning_rate,
)
from bench.features.reference.verb import STEPS_COMPARED, Reference, compare_early_losses, reference_speed_table
from bench.records.record import Record
from tests.heated import heat_like_a_gpu
from tests.reports.conftest import HERE
from tests.small import small, two_blocks

CPU = torch.device("cpu")


def of(run: ReferenceRun, experiment: Experiment, precision: str = "fp32") -> Record:
    where = replace(HERE, precision=precision)
    return Record(comparison="x", experiment=experiment, circumstances=where, measured=run)


@pytest.mark.parametrize(("reference", "method"), [("open-clip", "clip"), ("dense-bce", "catlip")])
def test_all_sides_have_equal_losses(reference: str, method: str, results: Path) -> None:
    experiment = two_blocks(method, clip_norm=None, steps_per_window=2)
    runs = [run_side(experiment, CPU, results, side, 0) for side in SIDES[reference]]
    for run in runs:
        assert len(run.window_seconds) == experiment.timing.windows
        assert len(run.losses) == WARMUP_STEPS + 2 * experiment.timing.windows
        assert run.losses == pytest.approx(runs[0].losses, rel=1e-5)
    assert {row["equal"] for row in compare_early_losses([of(run, experiment) for run in runs])} == {"yes"}
    if method == "clip":
        tokens = {run.side: run.tokens_per_caption for run in runs}
        assert tokens[OPEN_CLIP] == experiment.text.context_length > (tokens[OURS] or 0) > 3
    else:
        bytes_ = {run.side: run.target_bytes_per_image for run in runs}
        assert bytes_[DENSE] == 8 * run_head_rows(experiment)
        assert 0 < (bytes_[OURS] or 0) < bytes_[DENSE] / 50


def test_heated_sides_have_the_losses_of_one_step_with_each_batch(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They take other numbers of steps until they are heated."""
    heat_like_a_gpu(monkeypatch, 0.5)
    experiment = two_blocks("clip", clip_norm=None, steps_per_window=2)
    runs = [run_side(experiment, CPU, results, side, 0) for side in SIDES["open-clip"]]
    for run in runs:
        assert len(run.window_seconds) == experiment.timing.windows
        assert len(run.losses) == WARMUP_STEPS + 2 * experiment.timing.windows
        assert run.losses == pytest.approx(runs[0].losses, rel=1e-5)


def test_learning_rate_of_all_sides_stays_after_its_warm_up() -> None:
    """A GPU may take more steps while it is heated."""
    from open_clip_train.scheduler import const_lr

    experiment, optimizer = small("clip"), torch.optim.SGD([torch.zeros(1)], lr=1.0)
    schedule = const_lr(optimizer, experiment.optimizer.learning_rate, RAMP_STEPS, RAMP_STEPS)
    for step in (0, 7, RAMP_STEPS - 1, RAMP_STEPS, 3 * RAMP_STEPS):
        schedule(step)
        assert reference_learning_rate(experiment.optimizer, step) == pytest.approx(optimizer.param_groups[0]["lr"])


def test_gpu_is_heated_by_whole_windows_before_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    heat_like_a_gpu(monkeypatch, 0.1)
    plain, heated = WindowTimer(CPU, steps=3, windows=2, is_heated=False), WindowTimer(CPU, steps=3, windows=2)
    assert [*plain.time_steps()] == [*range(WARMUP_STEPS + 6)]
    taken = [*heated.time_steps()]
    assert taken == [*range(len(taken))]
    assert len(taken) > WARMUP_STEPS + 6
    assert (len(taken) - WARMUP_STEPS) % 3 == 0
    assert len(heated.seconds) == 2


def test_windows_of_a_gpu_are_long_and_have_the_same_batches() -> None:
    (experiment,) = Reference("open-clip")._experiments(on_gpu=True)
    count = WARMUP_STEPS + experiment.timing.steps_per_window
    assert count >= STEPS_COMPARED
    windows = [range(first, first + experiment.timing.steps_per_window) for first in (WARMUP_STEPS, count, 777)]
    assert {tuple(sorted(batch_number(k, count) for k in steps)) for steps in windows} == {(*range(2, count),)}
    assert [batch_number(k, count) for k in range(WARMUP_STEPS)] == [0, 1]


COMPILED = """
import sys
from functools import partial
from pathlib import Path

import msgspec
import torch

from bench.experiment.config import Experiment
from bench.features.reference import SIDES
from bench.features.reference.runs import run_side
from bench.profilers.counters import count_graphs
from tests import small  # and its towers

torch.compile = partial(torch.compile, backend="eager")
experiment = msgspec.json.decode(sys.argv[1], type=Experiment)
for side in SIDES["open-clip"]:
    torch._dynamo.reset()  # equal steps would share their graphs
    before = count_graphs()
    run = run_side(experiment, torch.device("cpu"), Path(sys.argv[2]), side, 0)
    print(msgspec.json.encode([count_graphs() - before, run]).decode())
"""


def test_step_is_compiled_on_all_sides_or_on_none(results: Path) -> None:
    """In a process whose shapes are not checked; dynamo hands its graphs to nobody."""
    experiment = two_blocks("clip", clip_norm=None, compile="on", text_padding="packed")
    command = [sys.executable, "-c", COMPILED, msgspec.json.encode(experiment).decode(), str(results)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=CHECKOUT)
    found = [msgspec.json.decode(line, type=tuple[int, ReferenceRun]) for line in done.stdout.splitlines()]
    eager = [run_side(change(experiment, compile="off"), CPU, results, side, 0) for side in SIDES["open-clip"]]
    for (graphs, run), without in zip(found, eager, strict=True):
        assert graphs > 0
        assert len(run.window_seconds) == experiment.timing.windows
        assert run.losses[: len(without.losses)] == pytest.approx(without.losses, rel=1e-5)


@pytest.mark.parametrize(
    ("gpu", "settings", "names"),
    [
        (False, (), ["clip-vit-b32"]),
        (True, (), ["clip-vit-b32[compile=off]", "clip-vit-b32[compile=on]"]),
        (True, ("flip=true",), ["clip-vit-b32[compile=off,flip=true]", "clip-vit-b32[compile=on,flip=true]"]),
        (True, ("compile=on",), ["clip-vit-b32[compile=on]"]),
    ],
)
def test_on_a_gpu_all_sides_are_timed_eager_and_compiled(
    gpu: bool, settings: tuple[str, ...], names: list[str]
) -> None:
    reference = Reference("open-clip", settings=settings)
    assert [one.name for one in reference._eager_and_compiled(EXPERIMENTS["clip-vit-b32"], on_gpu=gpu)] == names


def test_warm_up_lasts_until_no_new_graph_appears(monkeypatch: pytest.MonkeyPatch) -> None:
    compiling, graphs, taken = {0, 3}, list[int](), list[int]()
    monkeypatch.setattr("bench.features.reference.timing.count_graphs", lambda: len(graphs))
    timer = WindowTimer(CPU, steps=2, windows=2)
    for k in timer.time_steps():
        taken.append(k)
        graphs += {k} & compiling
    assert taken == [*range(WARMUP_STEPS + 2 * 3)]
    assert len(timer.seconds) == 2
    always = iter(range(2 * (MAX_COMPILED_WINDOWS + 1)))
    monkeypatch.setattr("bench.features.reference.timing.count_graphs", lambda: next(always))
    with pytest.raises(RuntimeError, match="compiled new graphs: set text_padding=packed"):
        [*WindowTimer(CPU, steps=2, windows=2).time_steps()]


def test_all_sides_have_losses_of_half_precision_that_differ_by_its_rounding(results: Path) -> None:
    experiment = two_blocks("clip", clip_norm=None, precision="bf16", windows=9, steps_per_window=2)
    runs = [run_side(experiment, CPU, results, side, 0) for side in SIDES["open-clip"]]
    rows = compare_early_losses([of(run, experiment, "bf16") for run in runs])
    assert {row["equal"] for row in rows} == {"yes"}, rows


def run_head_rows(experiment: Experiment) -> int:
    from bench.labels.vocabulary import read_vocabulary

    return len(read_vocabulary(experiment.targets.synset_vocabulary).labels)


def test_dense_targets_are_one_at_the_labels() -> None:
    rows = [[3, 1], [], [0]]
    assert make_multi_hot(Labels.from_lists(rows), 4).tolist() == [[int(i in row) for i in range(4)] for row in rows]


def test_different_losses_are_reported_and_speeds_are_ratios() -> None:
    experiment = small("catlip")
    sides = {DENSE: (2.0, (1.0, 1.0)), OURS: (1.0, (1.0, 1.001))}
    runs = [
        ReferenceRun(
            side=side,
            round=round_,
            window_seconds=(seconds * (1 + round_ / 100),),
            losses=losses,
            tokens_per_caption=None,
            target_bytes_per_image=1.0,
        )
        for side, (seconds, losses) in sides.items()
        for round_ in range(5)
    ]
    records = [of(run, experiment) for run in runs]
    assert [row["equal"] for row in compare_early_losses(records)] == ["no"]
    base, ours = reference_speed_table(records, (DENSE, OURS)).rows
    assert base["ratio"] is None
    assert ours["ratio"] == pytest.approx(2)
    assert ours["verdict"] == "faster"
    half = [of(run, experiment, "bf16") for run in runs]
    assert [row["equal"] for row in compare_early_losses(half)] == ["yes"]
    shorter = [*records[:5], *(of(replace(run, losses=()), experiment) for run in runs[5:])]
    assert [row["equal"] for row in compare_early_losses(shorter)] == ["no"]
