"""The verb from what is typed to a table: what it refuses at once, and what stands beside every tower."""

from pathlib import Path

import pytest
import timm
import torch

from bench.__main__ import main
from bench.cli.transfer import choose_tasks_and_protocols
from bench.experiment.config import Experiment, change
from bench.experiment.experiments import EXPERIMENTS
from bench.interfaces.catalog import (
    DEFAULT_TASKS,
)
from bench.records.record import TransferScores, read_records
from bench.towers.head_file import save_head_beside_tower, save_weights
from bench.towers.provenance import TowerProvenance, read_tower_provenance
from bench.train.build import build_untrained_tower
from tests.transfer.trees import folders, tars

pytestmark = pytest.mark.usefixtures("forked_runs")
TINY = "catlip-bench-tiny"  # one of open_clip's models here


@pytest.fixture
def ready(decoded: Path, tmp_path: Path) -> Path:  # noqa: ARG001 - the pack is decoded
    """A results folder of a test's own."""
    folder = tmp_path / "results"
    folder.mkdir()
    return folder


@pytest.fixture
def task(tmp_path: Path) -> list[str]:
    """Options that name a task of few images, and a protocol that takes a second."""
    root = folders(tmp_path / "task", {"train": 8, "test": 4})
    return ["--task", "folder", "--score-on", str(root), "--protocol", "k-nn"]


def saved(folder: Path, experiment: Experiment) -> Path:
    path = (
        folder / f"20260101T000000-train.tower.{experiment.name}.seed{experiment.seed}.safetensors"
    )
    made = TowerProvenance(experiment=experiment, images=512, budgets=("equal images",))
    save_weights(build_untrained_tower(experiment).state_dict(), path, made.to_metadata())
    return path


@pytest.mark.parametrize(
    ("tasks", "protocols", "chosen"),
    [
        ([], [], ([*DEFAULT_TASKS], ["linear-probe", "k-nn", "retrieval"])),
        (
            [],
            ["few-shot"],
            (["unseen subgroup", "Twemoji subgroup", "Twemoji group"], ["few-shot"]),
        ),
        (["unseen subgroup"], [], (["unseen subgroup"], ["linear-probe", "k-nn"])),
    ],
)
def test_tasks_and_protocols_by_default_fit_each_other(
    tasks: list[str], protocols: list[str], chosen: tuple[list[str], list[str]]
) -> None:
    chosen_tasks, root, chosen_protocols = choose_tasks_and_protocols(tasks, None, protocols)
    assert (chosen_tasks, chosen_protocols, root) == (*chosen, "")


def subjects(results: Path) -> list[tuple[str, int | None]]:
    """Who was scored, each with the seed of its training."""
    found = [
        record for record in read_records(results) if isinstance(record.measured, TransferScores)
    ]
    return sorted(
        {(one.measured.subject, one.experiment.seed if one.experiment else None) for one in found},  # type: ignore[union-attr]
        key=str,
    )


def test_weights_of_another_architecture_are_refused_before_scoring(
    ready: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    torch.save(timm.create_model("vit_tiny_patch16_224").state_dict(), tmp_path / "weights.pt")
    other = f"{TINY}={tmp_path / 'weights.pt'}"
    assert main(["transfer", other, "--task", "unseen subgroup", "--results", str(ready)]) == 2
    text = capfd.readouterr().err
    (line,) = [line for line in text.splitlines() if line.startswith("error: ")]
    assert "weights.pt does not fit catlip-bench-tiny" in line
    assert "Missing key(s) in state_dict" in line
    assert "Traceback" not in text
    assert not list(ready.glob("*.json"))


def test_a_root_folder_of_tars_is_scored_without_the_name_of_a_task(
    ready: Path, tmp_path: Path
) -> None:
    root = tars(tmp_path / "colours", {"train": 8, "test": 4})
    tower = str(saved(tmp_path, EXPERIMENTS["catlip-tiny"]))
    assert (
        main(
            [
                "transfer",
                tower,
                "--score-on",
                str(root),
                "--protocol",
                "k-nn",
                "--results",
                str(ready),
            ]
        )
        == 0
    )
    found = [
        one.measured for one in read_records(ready) if isinstance(one.measured, TransferScores)
    ]
    assert {(score.task, len(score.correct)) for one in found for score in one.scores} == {
        ("colours", 12)
    }


def test_each_seed_has_a_random_init_baseline(ready: Path, task: list[str]) -> None:
    tiny = EXPERIMENTS["catlip-tiny"]
    for seed in (0, 1):
        saved(ready, change(tiny, seed=seed))
    arguments = ["transfer", "catlip-tiny", *task, "--results", str(ready)]
    assert main(arguments) == 0
    assert subjects(ready) == [
        ("HOG and colour", None),
        ("catlip-tiny", 0),
        ("catlip-tiny", 1),
        ("random init", 0),
        ("random init", 1),
        ("raw pixels", None),
    ]
    records = {path: path.stat().st_mtime_ns for path in ready.glob("*.json")}
    assert main([*arguments, "--resume"]) == 0
    assert {path: path.stat().st_mtime_ns for path in ready.glob("*.json")} == records


def test_tower_is_scored_from_its_file_and_the_task_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its shards and its vocabulary are gone, and the pack is not decoded."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    gone = {"data": str(tmp_path / "shards"), "subword_vocabulary": str(tmp_path / "words.json")}
    tower = saved(tmp_path, change(EXPERIMENTS["clip-tiny"], **gone))
    save_head_beside_tower(
        {"text.token_embedding.weight": torch.zeros(2, 2)}, tower, read_tower_provenance(tower), ()
    )
    root = folders(tmp_path / "task", {"train": 8, "test": 4})
    arguments = [
        "transfer",
        str(tower),
        "--task",
        "folder",
        "--score-on",
        str(root),
        "--protocol",
        "linear-probe",
    ]
    assert main([*arguments, "--results", str(tmp_path / "results")]) == 0
    assert ("clip-tiny", 0) in subjects(tmp_path / "results")
    assert not (tmp_path / "caches" / "catlip-bench").exists()
