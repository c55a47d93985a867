"""Files of tasks that would block, or lead elsewhere, or whose words a terminal would obey."""

from pathlib import Path

import pytest
import torchmetrics.functional.classification  # noqa: F401 - whose first import lists the fonts in a process

from bench.features.dense_tasks.coco import AnnotationsFile, read_annotations_file
from bench.features.dense_tasks.mask_files import ImageAndMaskFiles
from bench.transfer.tasks.image_sources import EncodedImageSource
from tests.chaos.case import Case, reading, violations
from tests.chaos.endless import link, pipe
from tests.chaos.payloads import write_file
from tests.chaos.test_inputs import LARGE
from tests.data.shards import encode_image, make_image


def pipes() -> dict[str, Case]:
    """Return files that do not end: pipes and devices."""

    def mask(path: Path) -> object:
        image = write_file(path.with_name("a.png"), encode_image(make_image(0), "PNG"))
        return ImageAndMaskFiles(EncodedImageSource([image]), [path])[0]

    return {
        "a link to /dev/zero for a mask": reading(link("a.mask", "/dev/zero"), mask),
        "a pipe for annotations": reading(
            pipe("instances_a.json"), lambda path: read_annotations_file(path, AnnotationsFile)
        ),
    }


ENDLESS = pipes()


@pytest.mark.parametrize("name", ENDLESS)
def test_endless_file_of_a_task_is_refused(name: str, tmp_path: Path) -> None:
    assert not violations(ENDLESS[name], tmp_path / "own", LARGE)
