"""Hostile inputs of people who train: their checkpoints and towers."""

import json
from collections.abc import Callable
from pathlib import Path

from bench.experiment.experiments import EXPERIMENTS
from bench.towers.tower_from import FOLDER_CONFIG, FOLDER_WEIGHTS, load_tower
from bench.train.checkpoints import (
    TENSORS,
    TOWER,
    CheckpointMetadata,
    latest_valid,
    log_differences,
    write_checkpoint,
)
from tests.chaos.payloads import (
    DEEP,
    HOSTILE_NAME,
    Attack,
    pickle_payload,
    require_refusal,
    write_file,
    write_sparse_file,
)


def towers() -> dict[str, Attack]:
    """Return weights of strangers, which `transfer` and `export_tower` read."""

    def folder_of(config: Callable[[Path], object], name: str = FOLDER_WEIGHTS[-1]) -> Attack:
        def attack(folder: Path) -> None:
            config(folder / "tower" / FOLDER_CONFIG)
            write_file(folder / "tower" / name, pickle_payload(folder))
            require_refusal(lambda: load_tower(str(folder / "tower")))

        return attack

    def described(**vision: object) -> Callable[[Path], object]:
        config = {
            "embed_dim": 8,
            "vision_cfg": {"image_size": 48, "layers": 1, "width": 64, "patch_size": 12} | vision,
        }
        return lambda path: write_file(path, json.dumps({"model_cfg": config}).encode())

    return {
        "open_clip's folder, its weights a pickle that calls": folder_of(described()),
        "open_clip's folder, its safetensors a pickle": folder_of(described(), FOLDER_WEIGHTS[0]),
        "open_clip's folder, its tower on a hub": folder_of(
            described(timm_model_name="hf-hub:owned/owned")
        ),
        "open_clip's folder, its JSON nested 200,000 deep": folder_of(
            lambda path: write_file(path, DEEP)
        ),
        "open_clip's folder, its JSON within nested 200,000 deep": folder_of(
            lambda path: write_file(path, b'{"model_cfg":' + DEEP)
        ),
        "open_clip's folder, its JSON of 8 GiB": folder_of(write_sparse_file),
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
                phase=HOSTILE_NAME,
                images=80,
                processes=3,
                data_digest=HOSTILE_NAME,
                seconds=1.0,
            )
            write_checkpoint(
                folder / "out", saved, dict.fromkeys((TOWER, TENSORS), lambda file: file.write(b""))
            )
            path, found = latest_valid(folder / "out")
            log_differences(path, found, 1, "a commit of this project")

        return attack

    return {
        "words that a terminal would obey": of_comparison("20260101T000000-train"),
        "a comparison above the results": of_comparison("../../outside"),
        "a comparison that stands for all": of_comparison("*"),
        "a comparison that a terminal would obey": of_comparison(HOSTILE_NAME),
    }
