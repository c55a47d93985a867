"""A run of several processes is one process's run on the same global batch; one that fails ends all, soon.

Losses, gradients and updates are compared in gloo groups of two and four; the command line is torchrun's own.
"""

import errno
import math
import re
import shlex
import subprocess
import sys
import weakref
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file
from torch import Tensor

import bench.train.distributed as distributed_module
import bench.train.loop as train_module
import bench.train.state as state_module
from bench.console.console import FAILED_CASE, OK, TERMINATED, StopRequest
from bench.data.pack import PackImages, load_pack_images
from bench.data.stream import Batch, PackStream
from bench.environment.torchrun_ranks import TorchrunRanks
from bench.interfaces.method import METHODS
from bench.measure.timed_run import TimedRun
from bench.orchestration.comparison import Comparison
from bench.orchestration.runner import Runner
from bench.records.record import Failure, Memory, Speed, Training, TransferScores, read_records
from bench.train import checkpoint_manager
from bench.train.build import TrainRun, build_train_run
from bench.train.checkpoint_manager import CheckpointManager
from bench.train.checkpoints import (
    CheckpointConfig,
    find_latest_valid_checkpoint,
    list_checkpoints_newest_first,
)
from bench.train.distributed import gather_full_tensor
from bench.train.loop import train
from bench.train.state import collect_state, gather_on_rank0
from tests.processes import LONGEST_SECONDS, have_ended, in_ranks, start_ranks, wait_until
from tests.small import two_blocks
from tests.tensors import differing

ROOT, CPU = Path(__file__).parents[2], torch.device("cpu")
GLOBAL_BATCH, RATE = 16, 1e-3
SHARDINGS, NODES = ("ddp", "fsdp2"), 2
# Adam's first steps divide small gradients by themselves, rounding and all: two steps in float64.
STEPS, TOLERANCE = 2, 1e-9
RECOMPUTED: dict[str, object] = {"activation_checkpointing": True, "text_padding": "max_length"}
CASES: list[tuple[int, str, str, dict[str, object]]] = [
    # What a loss asks other ranks does not depend on how weights are sharded, but for counts and scales.
    (2, "siglip", "ddp", {}),
    (2, "distill", "ddp", {}),
    (2, "catlip", "ddp", {"ema_decay": 0.5, "clip_norm": None}),
    (2, "clip", "ddp", RECOMPUTED),
    (2, "clip", "fsdp2_no_reshard", RECOMPUTED),
    (2, "superclip", "fsdp2", {}),
    (4, "superclip", "hsdp", {}),
    (2, "superclass", "ddp", {"optimizer": "muon"}),
]
STRUCK = [("clip", "fsdp2"), ("catlip", "ddp")]
Figures = dict[str, dict[str, Tensor]]
FoundBy = Callable[[int], list[dict[str, Any]]]  # what each rank found, by their number


def few(results: Path) -> PackImages:
    whole = load_pack_images("pretrain", results / "cache")
    return PackImages(
        whole.premultiplied_rgba[:300], whole.captions[:300], whole.classes[:300], whole.keys[:300]
    )


def stream(
    method: str, images: PackImages, rank: int, ranks: int, **changes: object
) -> PackStream[Any]:
    experiment = two_blocks(method, batch_size=GLOBAL_BATCH // ranks, **changes)
    return PackStream(
        experiment,
        images,
        METHODS[method].make_target_function(experiment),
        CPU,
        rank=rank,
        ranks=ranks,
    )


def share(
    run: TrainRun, whole: PackStream[Any], k: int, dtype: torch.dtype = torch.float32
) -> Batch[Any]:
    """This rank's part of the one process's batch k: its own rows' captions, and the images as augmented there."""
    order = run.stream.order
    images = whole.batch(k).images.chunk(order.world_size)[order.rank]
    return Batch(images.to(dtype), run.stream.target(k))


def steps(method: str, images: PackImages, rank: int, ranks: int, **changes: object) -> Figures:
    """The loss of each step, the first gradient, and what the model is after the last, in float64."""
    whole = stream(method, images, 0, 1, **changes)
    torch.set_default_dtype(torch.float64)
    run = build_train_run(stream(method, images, rank, ranks, **changes))
    torch.set_default_dtype(torch.float32)
    losses, gradient = {}, {}
    for k in range(STEPS):
        loss = run.step.forward(share(run, whole, k, torch.float64))
        run.step.backward(loss)
        if k == 0:
            named = run.model.named_parameters()
            gradient = {name: value.grad.clone() for name, value in named if value.grad is not None}
        losses[str(k)] = run.step.update(loss, RATE)
    average = {} if run.step.ema is None else run.step.ema.state_dict()
    parts = {
        "loss": losses,
        "gradient": gradient,
        "state": run.model.state_dict(),
        "average": average,
    }
    return {
        part: {name: gather_full_tensor(value).detach() for name, value in tensors.items()}
        for part, tensors in parts.items()
    }


def struck(
    method: str, images: PackImages, rank: int, ranks: int, sharding: str
) -> dict[str, bool]:
    """What the ranks see of an image, and of a loss, that is not finite on the last rank alone."""
    whole = stream(method, images, 0, 1)
    run = build_train_run(stream(method, images, rank, ranks, sharding=sharding))
    run.step(share(run, whole, 0), RATE)

    def state() -> list[Tensor]:
        return [gather_full_tensor(value).clone() for value in collect_state(run).values()]

    before, batch = state(), share(run, whole, 1)
    if rank == ranks - 1:
        batch.images[1, 0, 0, 0] = math.nan
    skipped = run.step(batch, RATE).isnan()
    loss = run.step.forward(share(run, whole, 2))
    run.step.backward(loss)
    loss_skipped = run.step.update(loss * math.inf if rank == ranks - 1 else loss, RATE).isnan()
    kept = all(map(torch.equal, before, state()))
    goes_on = bool(run.step(share(run, whole, 3), RATE).isfinite())
    return {
        "an image": bool(skipped),
        "a loss": bool(loss_skipped),
        "nothing changed": kept,
        "and then on": goes_on and not all(map(torch.equal, before, state())),
    }


class AskedOfRank1(StopRequest):
    """A signal that comes to rank 1 alone, before the third look."""

    looks = 0

    @property
    def exit_code(self) -> int:
        self.looks += 1
        return TERMINATED if self.looks > 2 and dist.get_rank() == 1 else 0


def trained(rank: int, results: Path, folder: Path) -> dict[str, Any]:
    """Train with each sharding; with FSDP2 once more, stopped on the way and resumed. Return losses."""
    train_module.CHECK_INTERVAL = 2

    def go(
        sharding: str, name: str, manager: CheckpointManager | None = None
    ) -> tuple[tuple[float, ...], tuple[float, ...]]:
        experiment = two_blocks("catlip", batch_size=8, subset="random:96", sharding=sharding)
        path = folder / f"{name}-{rank}.96"
        training = train(experiment, CPU, results, {"x": 96}, lambda _: path, manager)
        return training.trunk_losses, training.cooldown_losses[0]

    def manager(stop: StopRequest, path: str = "") -> CheckpointManager:
        config = CheckpointConfig(
            folder=str(folder / "kept"), interval_minutes=1e6, resume_from=path
        )
        return CheckpointManager(config, "20260101T000000-train", stop)

    losses = {sharding: go(sharding, sharding) for sharding in SHARDINGS}
    with pytest.raises(SystemExit, match="143"):
        go("fsdp2", "stopped", manager(AskedOfRank1()))
    path, saved = find_latest_valid_checkpoint(folder / "kept")
    resumed = go("fsdp2", "resumed", manager(StopRequest(), str(path)))
    return losses | {"resumed": resumed, "steps taken": saved.steps_taken}


def gather_states(rank: int, images: PackImages) -> dict[str, Any]:
    """Gather the state of a run, and count the whole tensors of a device that live at once."""
    run = build_train_run(stream("clip", images, rank, 2, sharding="fsdp2"))
    run.step(run.stream.batch(0), RATE)
    state = collect_state(run)
    expected = {name: gather_full_tensor(value).clone() for name, value in state.items()}
    alive, most = list[weakref.ref[Tensor]](), 0

    def counted(value: Tensor) -> Tensor:
        nonlocal most
        whole = gather_full_tensor(value)
        if whole is not value:
            alive.append(weakref.ref(whole))
        most = max(most, sum(tensor() is not None for tensor in alive))
        return whole

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(state_module, "gather_full_tensor", counted)
        gathered = gather_on_rank0(state)
    if rank:
        return {"equal": not gathered, "most": most}
    is_equal = gathered.keys() == expected.keys() and not differing(gathered, expected)
    return {"equal": is_equal, "most": most}


def saved_beside_a_full_disk(rank: int, images: PackImages, folder: Path) -> list[bool]:
    """Save twice, the first time on a full disk of rank 0; return on it whether each was written."""
    run = build_train_run(stream("clip", images, rank, 2, sharding="fsdp2"))
    run.step(run.stream.batch(0), RATE)
    config = CheckpointConfig(folder=str(folder), interval_minutes=1e6)
    manager = CheckpointManager(config, "20260101T000000-train", StopRequest())
    written = []
    progress = manager.restore(run)
    progress.losses.append(1.0)
    for is_full in (True, False):
        with pytest.MonkeyPatch.context() as patch:
            if is_full:
                patch.setattr(checkpoint_manager, "save_tensors", full_after_three)
            manager._begin_save(run, progress)
            manager.wait_until_written()
        written.append(rank == 0 and bool(list_checkpoints_newest_first(folder)))
    return written


def full_after_three(_state: object, path: Path) -> None:
    path.write_bytes(b"three")
    raise OSError(errno.ENOSPC, "No space left on device")


def work(rank: int, ranks: int, results: Path, folder: Path) -> dict[str, Any]:
    """What each process computes."""
    images, local = few(results), ranks // NODES
    out: dict[str, Any] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            distributed_module,
            "read_torchrun_ranks",
            lambda: TorchrunRanks(rank, ranks, rank % local, local),
        )
        for _, method, sharding, changes in (case for case in CASES if case[0] == ranks):
            figures = steps(method, images, rank, ranks, sharding=sharding, **changes)
            out[f"{method} {sharding}"] = figures
    if ranks == 2:
        for method, sharding in STRUCK:
            out[f"struck {method} {sharding}"] = struck(method, images, rank, ranks, sharding)
        out["gathered"] = gather_states(rank, images)
        out["saved"] = saved_beside_a_full_disk(rank, images, folder / "checkpoints")
        out["trained"] = trained(rank, results, folder)
    return out


@pytest.fixture(scope="module")
def found_by(results: Path, tmp_path_factory: pytest.TempPathFactory) -> FoundBy:
    few(results)  # decoded before there are several

    @cache
    def found(ranks: int) -> list[dict[str, Any]]:
        folder = tmp_path_factory.mktemp("ranks")
        return [
            of_rank | {"folder": folder}
            for of_rank in in_ranks(work, ranks, folder, results, folder)
        ]

    return found


@pytest.fixture(scope="module")
def one_process(results: Path) -> Callable[..., Figures]:
    torch.set_num_threads(1)
    known = dict[str, Figures]()

    def figures(method: str, changes: dict[str, object]) -> Figures:
        if method not in known:
            known[method] = steps(method, few(results), 0, 1, **changes)
        return known[method]

    return figures


@pytest.mark.parametrize(
    ("ranks", "method", "sharding", "changes"),
    [pytest.param(*case, marks=pytest.mark.slow if case[0] > 2 else ()) for case in CASES],
    ids=str,
)
def test_distributed_losses_gradients_and_updates_equal_one_process(
    found_by: FoundBy,
    one_process: Callable[..., Figures],
    ranks: int,
    method: str,
    sharding: str,
    changes: dict[str, object],
) -> None:
    """IDF counts, the scale, which lies whole beside shards, and the moving average included."""
    expected = one_process(method, changes)
    assert bool(expected["average"]) == ("ema_decay" in changes)
    for of_rank in found_by(ranks):
        for part, tensors in expected.items():
            found = of_rank[f"{method} {sharding}"][part]
            assert found.keys() == tensors.keys()
            for name, value in tensors.items():
                torch.testing.assert_close(
                    found[name], value, rtol=TOLERANCE, atol=TOLERANCE, msg=f"{part} of {name}"
                )


@pytest.mark.parametrize(("method", "sharding"), STRUCK)
def test_non_finite_step_on_one_rank_is_skipped_on_all(
    found_by: FoundBy, method: str, sharding: str
) -> None:
    for of_rank in found_by(2):
        assert all(of_rank[f"struck {method} {sharding}"].values()), of_rank[
            f"struck {method} {sharding}"
        ]


def test_a_training_counts_global_batches_and_rank_0_leaves_the_tower(found_by: FoundBy) -> None:
    """Shards are put together: DDP and FSDP2 leave the same tower."""
    found, num_steps = found_by(2), 96 // (8 * 2)
    for sharding in SHARDINGS:
        trunk, cooldown = found[0]["trained"][sharding]
        assert (len(trunk), len(cooldown)) == (num_steps - 1, 1)
        assert found[1]["trained"][sharding] == (trunk, cooldown)
    folder = found[0]["folder"]
    files = {path.name for path in folder.glob("*.96")}
    assert files == {"ddp-0.96", "fsdp2-0.96", "resumed-0.96"}
    towers = [load_file(folder / f"{sharding}-0.96") for sharding in SHARDINGS]
    for name, value in towers[0].items():
        torch.testing.assert_close(towers[1][name], value, rtol=1e-5, atol=1e-5)


def test_a_state_is_gathered_tensor_by_tensor(found_by: FoundBy) -> None:
    for of_rank in found_by(2):
        assert of_rank["gathered"]["equal"]
        # The one that was copied, and the one that is gathered.
        assert of_rank["gathered"]["most"] <= 2


def test_full_disk_of_rank_0_keeps_the_ranks_together(found_by: FoundBy) -> None:
    assert [of_rank["saved"] for of_rank in found_by(2)] == [[False, True], [False, False]]
    path, saved = find_latest_valid_checkpoint(found_by(2)[0]["folder"] / "checkpoints")
    assert (path.name, saved.steps_taken) == ("step-00000001", 1)
    assert [entry.name for entry in path.parent.iterdir()] == ["step-00000001"]


def test_training_stopped_on_one_rank_resumes_on_all(found_by: FoundBy) -> None:
    """The same losses and the same tower, to the last bit, as one that was not stopped."""
    first, second = (of_rank["trained"] for of_rank in found_by(2))
    assert first == second
    assert 0 < first["steps taken"] < 6
    assert first["resumed"] == first["fsdp2"]
    folder = found_by(2)[0]["folder"]
    assert not differing(load_file(folder / "resumed-0.96"), load_file(folder / "fsdp2-0.96"))


# The command line

TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
SETTINGS = ["--set", "batch_size=8", "--set", "subset=random:300"]
WINDOWS = shlex.split(
    "--set untimed_steps=1 --set timed_windows=2 --set steps_per_window=1 --rounds 1"
)
MEASURE = ["-m", "bench", "measure", "catlip-tiny", *SETTINGS, *WINDOWS]
LAUNCHED = [sys.executable, *MEASURE, "--launch", shlex.join([sys.executable, *TORCHRUN])]
TRAIN = shlex.split("train catlip-tiny --images-seen 64 --task 'unseen subgroup'") + SETTINGS


def memory_run_of_rank_1(parent: int) -> psutil.Process | None:
    """Return the process of rank 1 that measures memory for a command line, if it runs."""
    for child in psutil.Process(parent).children(recursive=True):
        with suppress(psutil.Error, KeyError):  # it has ended meanwhile, or not quite begun
            words = " ".join(child.cmdline())
            if "memory of catlip-tiny" in words and child.environ()["RANK"] == "1":
                return child
    return None


@pytest.mark.slow
def test_launched_measurement_records_windows_of_all_ranks_and_survives_a_killed_rank(
    own_results: Path,
) -> None:
    words = [*LAUNCHED, "--results", str(own_results)]
    running = subprocess.Popen(
        words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    wait_until(lambda: memory_run_of_rank_1(running.pid), running).kill()
    printed, _ = running.communicate(timeout=LONGEST_SECONDS)
    assert running.returncode == FAILED_CASE, printed
    assert "of all processes of a run together" in " ".join(printed.split())
    records = read_records(own_results)
    (failure,) = [record.measured for record in records if isinstance(record.measured, Failure)]
    assert failure.what.startswith("memory of catlip-tiny")
    assert not [record for record in records if isinstance(record.measured, Memory)]
    (record,) = [record for record in records if isinstance(record.measured, Speed)]
    assert record.circumstances.processes == 2
    assert "--launch" in record.circumstances.command
    speed = record.measured
    num_windows = len(speed.window_seconds)  # as many as it takes until two count
    assert [len(windows) for windows in speed.rank_window_seconds] == [num_windows] * 2
    assert speed.rank_window_seconds[0] == speed.window_seconds
    slowest = [max(of_ranks) for of_ranks in zip(*speed.rank_window_seconds, strict=True)]
    assert TimedRun(record.experiment, speed).images_per_second_of_all_windows() == pytest.approx(
        2 * 8 * num_windows / sum(slowest)
    )


@pytest.mark.slow
def test_killed_command_line_ends_its_launcher_and_all_ranks(own_results: Path) -> None:
    words = [*LAUNCHED, "--results", str(own_results)]
    running = subprocess.Popen(words, cwd=ROOT, stderr=subprocess.DEVNULL)
    rank = wait_until(lambda: memory_run_of_rank_1(running.pid), running)
    wait_until(lambda: any("libtorch" in mapped.path for mapped in rank.memory_maps()), running)
    descendants = psutil.Process(running.pid).children(recursive=True)
    running.kill()
    running.wait()
    assert have_ended(descendants)


def test_missing_launcher_is_a_recorded_failure(tmp_path: Path) -> None:
    runner = Runner(launch="no-such-launcher --x")
    experiment = two_blocks("catlip")
    comparison = Comparison("c", tmp_path, [experiment], cores=1, on_gpu=False, runner=runner)
    function = "bench.measure.memory:measure_memory"
    run = comparison.new_run(function, "memory", experiment, "memory", is_distributed=True)
    runner.run([run], threads=1)
    reason = "--launch no-such-launcher: No such file or directory"
    assert runner.failures == [f"memory: {reason}"]
    assert [record.measured for record in read_records(tmp_path)] == [
        Failure(what="memory", reason=reason)
    ]


def run_ranks(folder: Path, *words: str) -> tuple[list[int | None], list[str]]:
    """Return the exit codes of two ranks with this command line, and what each printed."""
    ranks = start_ranks(2, folder, *words)
    for rank in ranks:
        rank.join(LONGEST_SECONDS)
    printed = [(folder / f"{rank}.log").read_text() for rank in range(2)]
    return [rank.exitcode for rank in ranks], printed


@pytest.mark.slow
def test_torchrun_trains_in_its_own_processes_and_rank_0_scores(own_results: Path) -> None:
    codes, printed = run_ranks(own_results, *TRAIN, "--out", str(own_results / "out"))
    assert codes == [OK, OK], printed
    assert ["unseen subgroup" in text for text in printed] == [True, False]
    processes = {
        type(record.measured): record.circumstances.processes
        for record in read_records(own_results / "out")
    }
    assert processes == {Training: 2, TransferScores: 1}


@pytest.mark.slow
def test_training_that_fails_on_the_ranks_is_a_recorded_failure_and_asks_for_no_requeue(
    own_results: Path,
) -> None:
    out = own_results / "out"
    diverging = ["-m", "bench", *TRAIN, "--set", "learning_rate=1e30", "--out", str(out)]
    job = subprocess.run(
        [sys.executable, *TORCHRUN, *diverging],
        check=False,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=LONGEST_SECONDS,
    )
    assert job.returncode == 1, job.stderr  # torchrun's, if a rank has failed
    assert set(re.findall(r"exitcode +: (\S+)", job.stderr)) == {str(FAILED_CASE)}, job.stderr
    (failure,) = [record.measured for record in read_records(out)]
    assert isinstance(failure, Failure)
    assert "is not finite" in failure.reason
    assert not (out / "requeue").exists()


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["measure", "clip-tiny"], "torchrun starts train alone"),
        (["train", "no-such-experiment"], "no-such-experiment"),
    ],
)
def test_refused_command_under_torchrun_ends_all_ranks(
    words: list[str], reason: str, own_results: Path
) -> None:
    codes, printed = run_ranks(own_results, *words)
    assert codes[0] == 2
    assert reason in printed[0]
    assert "Traceback" not in printed[1]
