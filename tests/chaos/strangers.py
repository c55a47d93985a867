"""Hostile inputs of people who train: their checkpoints and towers."""

from pathlib import Path

from bench.experiment.experiments import EXPERIMENTS
from bench.towers.tower_from import load_tower
from bench.train.checkpoints import (
    CheckpointMetadata,
    find_latest_valid_checkpoint,
    log_resume_differences,
    write_checkpoint_and_remove_old,
)
from tests.chaos.payloads import (
    HOSTILE_NAME,
    Attack,
    pickle_payload,
    require_refusal,
    write_file,
)


def towers() -> dict[str, Attack]:
    """Return weights of strangers, which `transfer` and `export_tower` read."""

    def weights(name: str) -> Attack:
        def attack(folder: Path) -> None:
            file = write_file(folder / name, pickle_payload(folder))
            require_refusal(lambda: load_tower(f"catlip-bench-tiny={file}"))

        return attack

    return {
        "weights that are a pickle that calls": weights("x.bin"),
    }


def checkpoints() -> dict[str, Attack]:
    """Return checkpoints of strangers whose words a terminal would obey, or whose names lead elsewhere."""

    def of_comparison(name: str) -> Attack:
        def attack(folder: Path) -> None:
            saved = CheckpointMetadata(
                comparison=name,
                experiment=EXPERIMENTS["catlip-tiny"],
                budgets={HOSTILE_NAME: 1},
                commit=HOSTILE_NAME,
                steps_taken=5,
                images=80,
                processes=3,
                data_digest=HOSTILE_NAME,
                seconds=1.0,
            )
            write_checkpoint_and_remove_old(folder / "out", saved, Path.touch)
            path, found = find_latest_valid_checkpoint(folder / "out")
            log_resume_differences(path, found, 1, "a commit of this project")

        return attack

    return {
        "words that a terminal would obey": of_comparison("20260101T000000-train"),
        "a comparison above the results": of_comparison("../../outside"),
        "a comparison that a terminal would obey": of_comparison(HOSTILE_NAME),
    }
