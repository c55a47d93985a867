"""Files of tasks that would block, or lead elsewhere, or whose words a terminal would obey."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torchmetrics.functional.classification  # noqa: F401 - whose first import lists the fonts in a process

from bench.console.console import describe_error, log
from bench.features.dense_tasks.coco import Instances, read_instances
from bench.features.dense_tasks.mask_files import MaskFiles, read_mask_folders
from bench.features.dense_tasks.multi_label import macro_map_scores
from bench.transfer.named_tasks import load_task, require_openable
from bench.transfer.tasks.image_sources import FileImageSource
from tests.chaos.case import Case, attack, reading, violations
from tests.chaos.endless import link, pipe
from tests.chaos.payloads import HOSTILE_NAME, Attack, write_file
from tests.chaos.test_inputs import HOSTILE, LARGE
from tests.data.shards import encode_image, make_image

NUM_IMAGES = 12


def pipes() -> dict[str, Case]:
    """Return files that do not end: pipes, devices and long lists."""

    def mask(path: Path) -> object:
        image = write_file(path.with_name("a.png"), encode_image(make_image(0), "PNG"))
        return MaskFiles(FileImageSource([image]), [path], np.zeros(256, np.int64))[0]

    def classes(folder: Path) -> Path:
        write_file(folder / "classes.txt", b"a\n" * 10**6)
        return folder

    return {
        "a million classes of masks": reading(
            classes, lambda path: read_mask_folders(path, path / "cache")
        ),
        "a link to /dev/zero for a mask": reading(link("a.mask", "/dev/zero"), mask),
        "a pipe for annotations": reading(
            pipe("instances_a.json"), lambda path: read_instances(path, Instances)
        ),
    }


def strangers() -> dict[str, Attack]:
    """Return folders of tasks whose lists and annotations lead elsewhere, or would be obeyed."""
    plain = [f"{number:02}.jpg" for number in range(NUM_IMAGES)]
    return {
        "COCO, an image of the system": _task("coco-labels", _coco([*plain, "/etc/passwd"])),
        "COCO, names that a terminal would obey": _task(
            "coco-labels", _coco([*plain, f"{HOSTILE_NAME}.jpg"])
        ),
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
        return macro_map_scores(
            task, "multi-label", scores, task.train.concatenate(task.validation)
        )

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
    shown = [
        {"image_id": row, "category_id": number}
        for row in range(NUM_IMAGES)
        for number in range(classes)
    ]
    return {
        "images": [{"id": row, "file_name": name} for row, name in enumerate(names)],
        "annotations": shown,
        "categories": [{"id": 0, "name": "dog"}, {"id": 1, "name": HOSTILE_NAME}],
    }


def _write_images(folder: Path, names: list[str]) -> None:
    """Write images under those of the names that lead into the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        if Path(name).name == name:
            (folder / name).write_bytes(encode_image(make_image(0)))


ENDLESS = pipes()
STRANGERS = {name: attack(act) for name, act in strangers().items()}


@pytest.mark.parametrize("name", ENDLESS)
def test_endless_file_of_a_task_is_refused(name: str, tmp_path: Path) -> None:
    assert not violations(ENDLESS[name], tmp_path / "own", LARGE)


@pytest.mark.parametrize("name", STRANGERS)
def test_file_of_a_stranger_does_nothing_but_be_read(name: str, tmp_path: Path) -> None:
    assert not violations(STRANGERS[name], tmp_path / "own", HOSTILE)
