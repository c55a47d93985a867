"""Kills of trainings, of runs that score towers, and of ranks lose nothing, and what would be lost is found."""

import os
import random
from pathlib import Path

import psutil
import pytest
import torch

from bench.environment.machine import current_circumstances
from bench.record import Record, Transfer, record_path, write_record
from bench.scores import Score
from tests.chaos import kills, matrices, rank_kills
from tests.chaos.commands import describe_training_difference, read_record_files
from tests.chaos.short import short_experiment, train_in_process


@pytest.mark.minutes
def test_killed_training_resumes(own_results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kills, "STARTING", 0.0)
    own = os.sched_getaffinity(0)
    try:
        chain = kills.kill_trainings(0, 1, 0, own_results)
    finally:
        os.sched_setaffinity(0, own)
    assert (chain.kills, len(chain.finished)) == (1, 1)
    assert not [*chain.unreadable, *chain.lost, *chain.stuck, *chain.unequal]
    assert describe_training_difference(chain.finished[0], own_results) == f"no record in {own_results}"


@pytest.mark.minutes
def test_killed_scoring_resumes(own_results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train_in_process(short_experiment("catlip"), own_results)
    monkeypatch.setattr(matrices, "SCORED", ("--task", "rooms", "--task", "Twemoji subgroup", "--protocol", "k-nn"))
    own = os.sched_getaffinity(0)
    try:
        chain = matrices.kill_comparison(matrices.KINDS.index("transfer"), 1, 0, own_results)
    finally:
        os.sched_setaffinity(0, own)
    assert (chain.kills, len(chain.finished)) == (1, 1)
    assert not [*chain.lost, *chain.stuck, *chain.unequal]


def test_missing_torn_and_different_records_are_detected(tmp_path: Path) -> None:
    whole, out = tmp_path / "whole", tmp_path / "out"
    for folder, correct in ((whole, "110"), (out, "100")):
        score = Score(
            task="rooms",
            protocol="k-NN",
            chosen=1.0,
            validation_accuracy=0.5,
            converged=True,
            correct=correct,
            num_classes=2,
            num_train=3,
            majority=0.5,
        )
        where = current_circumstances(None, torch.device("cpu"))
        for subject in ("same", "other") if folder == whole else ("same",):
            scores = Transfer(subject=subject, images=0, budgets=(), scores=(score,))
            record = Record(comparison="2026-t", experiment=None, circumstances=where, measured=scores)
            folder.mkdir(exist_ok=True)
            write_record(record, record_path(folder, "2026-t", "transfer", subject))
    assert matrices._other_scores(whole, whole) == []
    one_side, differs = matrices._other_scores(out, whole)
    assert ("other" in one_side, "same" in differs) == (True, True)
    wrong = list[str]()
    (out / "2026-t.transfer.torn.json").write_bytes(b'{"format":')
    assert len(read_record_files(out, wrong)) == 1
    assert len(wrong) == 1


@pytest.mark.minutes
def test_killing_a_rank_ends_the_other_ranks(own_results: Path) -> None:
    found, out = rank_kills.KillResults(), own_results / "killed"
    rank_kills._kill_one(out, own_results, random.Random(0), found, moment=rank_kills.SAVING, restarts=0)
    assert not [*found.hung, *found.unreadable]
    assert len(found.seconds) == 1


@pytest.mark.minutes
def test_job_that_ends_before_its_kill_is_reported_and_leaves_no_process(tmp_path: Path) -> None:
    found = rank_kills.KillResults()
    wrong = ("--set", "images=no number")
    rank_kills._kill_one(
        tmp_path / "killed", tmp_path, random.Random(0), found, *wrong, moment=rank_kills.STEPPING, restarts=0
    )
    assert len(found.hung) == 1
    assert "it had ended" in found.hung[0]
    text = [" ".join(one.info["cmdline"] or []) for one in psutil.process_iter(["cmdline"])]
    assert not [words for words in text if str(tmp_path) in words]
