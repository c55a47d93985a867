"""The verb `train` from outside: stopped, killed, resumed, refused; what it leaves."""

import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from bench.__main__ import main
from bench.cli.train import TrainAndScoreTower, parse_image_count
from bench.environment.cores import count_available_cores
from bench.environment.variables import END_TIME
from bench.experiment.experiments import EXPERIMENTS
from bench.experiment.settings import renamed_with_settings
from bench.orchestration.budgets import with_training_images_and_short_warmup
from bench.orchestration.comparison import Comparison
from bench.orchestration.scope import ComparisonScope
from bench.records.record import Training, TransferScores, read_records
from bench.train.checkpoints import (
    find_latest_valid_checkpoint,
    list_checkpoints_newest_first,
    lock_training_folder,
)
from tests.processes import LONGEST_SECONDS, Parting, run_of, wait_until
from tests.train.test_checkpoints import written

ROOT = Path(__file__).parents[2]
SETTINGS = ["batch_size=16", "subset=random:320"]
OPTIONS = [
    *shlex.split("catlip-tiny --images-seen 1.28k --task 'unseen subgroup'"),
    *(word for setting in SETTINGS for word in ("--set", setting)),
]
# 64 + 16 steps.
EXPERIMENT = with_training_images_and_short_warmup(
    renamed_with_settings(EXPERIMENTS["catlip-tiny"], SETTINGS), 1280
)


def command(out: Path, *more: str) -> list[str]:
    often = ["--checkpoint-minutes", "0.0001"]  # so: every 20 steps
    return [sys.executable, "-m", "bench", "train", *OPTIONS, *often, "--out", str(out), *more]


def started(out: Path, *more: str) -> tuple["subprocess.Popen[str]", psutil.Process]:
    """Start a training and wait until it has saved once more; return it and the process that trains."""
    before = list_checkpoints_newest_first(out / "checkpoints")[:1]
    parent = subprocess.Popen(
        command(out, *more), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    wait_until(lambda: list_checkpoints_newest_first(out / "checkpoints")[:1] != before, parent)
    return parent, run_of(parent.pid, "training of catlip-tiny")[0]


@pytest.mark.slow
@pytest.mark.usefixtures("forked_runs")
def test_stopped_and_killed_training_resumes_to_the_same_tower_and_scores(
    decoded: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Commands that are stopped start as a user's do; what ends by itself forks its runs."""
    out = decoded / "train-stopped"
    again = ["--resume"]
    parent, child = started(out, *again)
    assert not (out / "requeue").exists()
    parent.send_signal(signal.SIGUSR1)
    _, text = parent.communicate(timeout=LONGEST_SECONDS)
    assert parent.returncode == 75, text
    assert "Traceback" not in text, text
    assert not child.is_running()
    assert (out / "requeue").exists()
    assert find_latest_valid_checkpoint(out / "checkpoints")[1].experiment == EXPERIMENT

    (out / "requeue").unlink()
    ending = {END_TIME: str(int(time.time()) + 60)}  # a training keeps more for saving
    parent = subprocess.Popen(
        command(out, *again), cwd=ROOT, env=os.environ | ending, stderr=subprocess.PIPE, text=True
    )
    _, text = parent.communicate(timeout=LONGEST_SECONDS)
    assert parent.returncode == 75, text
    assert (out / "requeue").exists()

    parent, child = started(out, *again)
    child.send_signal(signal.SIGINT)  # to the training process alone
    _, text = parent.communicate(timeout=LONGEST_SECONDS)
    assert parent.returncode == 130, text
    assert "--resume" in text
    assert "FAILED" not in text
    assert not list(out.glob("*.failure.*"))

    parent, child = started(out, *again)
    parent.kill()  # its child notices, saves and ends
    parent.communicate()
    child.wait(timeout=LONGEST_SECONDS)
    assert find_latest_valid_checkpoint(out / "checkpoints")[1].steps_taken < 80

    capsys.readouterr()
    assert main(command(out, *again)[3:]) == 0, capsys.readouterr().err
    assert not (out / "requeue").exists()
    printed = capsys.readouterr().out
    assert "unseen subgroup" in printed
    assert "Twemoji" not in printed
    records = read_records(out)
    scored = [record.measured for record in records if isinstance(record.measured, TransferScores)]
    assert {score.task for transfer in scored for score in transfer.scores} == {"unseen subgroup"}
    training = next(record.measured for record in records if isinstance(record.measured, Training))

    scope = ComparisonScope("whole", 0, half_way=False, equal_seconds=False)
    Comparison(
        "whole", decoded, [EXPERIMENT], count_available_cores(), on_gpu=False, runner=Parting()
    ).train_towers(scope)
    unstopped = next(
        r.measured for r in read_records(decoded, "whole") if isinstance(r.measured, Training)
    )
    assert training.trunk_losses == unstopped.trunk_losses
    assert training.cooldown_losses == unstopped.cooldown_losses
    assert (out / training.branches[0].tower).read_bytes() == (
        decoded / unstopped.branches[0].tower
    ).read_bytes()


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ([], "already holds a checkpoint (step-00000005): add --resume, or name another folder"),
        (["--resume"], "of another experiment, they differ in seed: 0 / 7; "),
        (
            ["--resume", "--checkpoint-minutes", "0"],
            "--checkpoint-minutes must be from 1e-09 to 1e+06, got 0.0",
        ),
        (["--resume", "--task", "folders"], "did you mean 'folder'"),
        (
            ["--resume", "--images-seen", "3"],
            "--images-seen must be at least two batches (32), got 3",
        ),
    ],
)
def test_refused_command_changes_nothing(
    more: list[str], text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path / "checkpoints", 5)
    assert main(["train", *OPTIONS, "--set", "seed=7", "--out", str(tmp_path), *more]) == 2
    assert text in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [path.parent]
    assert list_checkpoints_newest_first(path.parent) == [path]


def test_second_training_in_a_folder_is_refused_before_it_loads_anything(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first may still be loading, and has no checkpoint; or its command was killed while it saves."""
    for locked in (tmp_path, tmp_path / "checkpoints"):
        with lock_training_folder(locked):
            before = sorted(tmp_path.rglob("*"))
            assert main(["train", *OPTIONS, "--out", str(tmp_path)]) == 2
            assert sorted(tmp_path.rglob("*")) == before
        (line,) = capsys.readouterr().err.splitlines()
        assert f"another training writes to {locked}: name another folder with --out" in line
        (locked / ".lock").unlink()


def test_training_locks_its_folder_while_it_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def open_in_locked_folder(out: Path, *_: object, **__: object) -> None:
        with (
            pytest.raises(ValueError, match="another training writes to"),
            lock_training_folder(out),
        ):
            pass
        raise ValueError("it was locked")

    monkeypatch.setattr("bench.cli.train.require_runnable_and_prepare_data", open_in_locked_folder)
    with pytest.raises(ValueError, match="it was locked"):
        TrainAndScoreTower(name="catlip-tiny", out=tmp_path).run()


def test_image_counts_are_parsed_with_suffixes() -> None:
    counts = {"4096": 4096, "80k": 80_000, "12.8M": 12_800_000, "1.28B": 1_280_000_000}
    assert {text: parse_image_count(text) for text in counts} == counts
