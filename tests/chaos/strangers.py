"""Hostile inputs of people who train and label: their checkpoints, towers, and the folders of their tasks."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from bench.console.console import describe_error, log
from bench.experiments import EXPERIMENTS
from bench.towers.tower_from import FOLDER_CONFIG, FOLDER_WEIGHTS, load_tower
from bench.train.checkpoints import (
    TENSORS,
    TOWER,
    CheckpointMetadata,
    latest_valid,
    log_differences,
    write_checkpoint,
)
from bench.transfer.multi_label import task_metrics
from bench.transfer.tasks.named_tasks import load_task, require_openable
from tests.chaos.made import encode_image, make_image
from tests.chaos.payloads import (
    DEEP,
    HOSTILE_NAME,
    Attack,
    pickle_payload,
    require_refusal,
    write_file,
    write_sparse_file,
)

NUM_IMAGES = 12


def towers() -> dict[str, Attack]:
    """Return weights of strangers, which `transfer` and `export_tower` read."""

    def folder_of(config: Callable[[Path], object], name: str = FOLDER_WEIGHTS[-1]) -> Attack:
        def attack(folder: Path) -> None:
            config(folder / "tower" / FOLDER_CONFIG)
            write_file(folder / "tower" / name, pickle_payload(folder))
            require_refusal(lambda: load_tower(str(folder / "tower")))

        return attack

    def described(**vision: object) -> Callable[[Path], object]:
        config = {"embed_dim": 8, "vision_cfg": {"image_size": 48, "layers": 1, "width": 64, "patch_size": 12} | vision}
        return lambda path: write_file(path, json.dumps({"model_cfg": config}).encode())

    return {
        "open_clip's folder, its weights a pickle that calls": folder_of(described()),
        "open_clip's folder, its safetensors a pickle": folder_of(described(), FOLDER_WEIGHTS[0]),
        "open_clip's folder, its tower on a hub": folder_of(described(timm_model_name="hf-hub:owned/owned")),
        "open_clip's folder, its JSON nested 200,000 deep": folder_of(lambda path: write_file(path, DEEP)),
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
            write_checkpoint(folder / "out", saved, _write_tensors)
            path, found = latest_valid(folder / "out")
            log_differences(path, found, 1, "a commit of this project")

        return attack

    return {
        "words that a terminal would obey": of_comparison("20260101T000000-train"),
        "a comparison above the results": of_comparison("../../outside"),
        "a comparison that stands for all": of_comparison("*"),
        "a comparison that a terminal would obey": of_comparison(HOSTILE_NAME),
    }


def _write_tensors(folder: Path) -> None:
    for name in (TOWER, TENSORS):
        (folder / name).write_bytes(b"")


def tasks() -> dict[str, Attack]:
    """Return folders of tasks whose lists and annotations lead elsewhere, or would be obeyed."""
    plain = [f"{number:02}.jpg" for number in range(NUM_IMAGES)]
    return {
        "COCO, an image of the system": _task("coco-labels", _coco([*plain, "/etc/passwd"])),
        "COCO, names that a terminal would obey": _task("coco-labels", _coco([*plain, f"{HOSTILE_NAME}.jpg"])),
        "VOC, an entity that is a file": _task(
            "voc-labels", _voc("&file;", '<!DOCTYPE l [<!ENTITY file SYSTEM "file:///etc/passwd">]>')
        ),
        "VOC, an entity that is an address": _task(
            "voc-labels", _voc("dog", '<!DOCTYPE l SYSTEM "http://127.0.0.1:9/l.dtd">')
        ),
        "VOC, names that a terminal would obey": _task("voc-labels", _voc("\x9b2J\u202edog")),
        "VOC, an image above the folder": _task("voc-labels", _voc("dog", others=["../../outside"])),
    }


def _task(name: str, write: Callable[[Path], None]) -> Attack:
    """Check a task as `transfer` does before it scores; score what is taken, with a head that knows nothing."""

    def attack(folder: Path) -> object:
        write(folder / "task")
        try:
            require_openable(folder / "out", str(folder / "task"), [], [name])
        except (ValueError, OSError) as error:
            log(describe_error(error))
            return None
        task = load_task(name, folder / "out", str(folder / "task"))
        scores = np.zeros((len(task.test.images), len(task.classes)))
        return task_metrics(task, "multi-label", scores, task.train.concatenate(task.validation))

    return attack


def _coco(names: list[str]) -> Callable[[Path], None]:
    """Write COCO's layout: images of two classes, of which the test has one."""

    def write(root: Path) -> None:
        for classes, split in ((2, "train2017"), (1, "val2017")):
            _write_images(root / split, names)
            content = json.dumps(_instances(names, classes)).encode()
            write_file(root / "annotations" / f"instances_{split}.json", content)

    return write


def _instances(names: list[str], classes: int) -> Mapping[str, object]:
    shown = [{"image_id": row, "category_id": number} for row in range(NUM_IMAGES) for number in range(classes)]
    return {
        "images": [{"id": row, "file_name": name} for row, name in enumerate(names)],
        "annotations": shown,
        "categories": [{"id": 0, "name": "dog"}, {"id": 1, "name": HOSTILE_NAME}],
    }


def _voc(name: str, doctype: str = "", others: Sequence[str] = ()) -> Callable[[Path], None]:
    """Write Pascal VOC's layout: of every image an annotation, of which the first has a name of its own."""

    def write(root: Path) -> None:
        names = [f"{number:02}" for number in range(NUM_IMAGES)]
        for split in ("train", "val"):
            listed = "\n".join([*names, *others])
            write_file(root / "ImageSets" / "Main" / f"{split}.txt", listed.encode())
        _write_images(root / "JPEGImages", [f"{one}.jpg" for one in names])
        for row, one in enumerate(names):
            own = f"{doctype}<annotation><object><name>{name if row == 0 else 'cat'}</name></object></annotation>"
            write_file(root / "Annotations" / f"{one}.xml", own.encode())

    return write


def _write_images(folder: Path, names: list[str]) -> None:
    """Write images under those of the names that lead into the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        if Path(name).name == name:
            (folder / name).write_bytes(encode_image(make_image(0)))
