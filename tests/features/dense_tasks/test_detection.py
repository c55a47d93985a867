"""Average precision is pycocotools'; targets follow their images; a detector learns what it is shown."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.features.dense_tasks.dense_training import DenseTrainingRecipe
from bench.features.dense_tasks.detection import (
    DetectionRecipe,
    DetectionTask,
    Objects,
    _make_detector_input,
    compute_average_precision,
    import_pycocotools_module,
    score_detection,
)
from models.dense_heads import DetectionHeadSizes
from models.image_tower import build_image_tower
from tests.features.dense_tasks.scenes import CLASSES, draw_scene
from tests.transfer.toys import toy_subject

SIDE = 40


def objects(boxes: list[list[int]], labels: list[int], *, crowd: bool = False) -> Objects:
    """Objects that fill their boxes (left, top, right, bottom)."""
    masks = torch.zeros(len(boxes), SIDE, SIDE, dtype=torch.bool)
    for mask, (left, top, right, bottom) in zip(masks, boxes, strict=True):
        mask[top:bottom, left:right] = True
    return {
        "boxes": torch.tensor(boxes, dtype=torch.float32),
        "labels": torch.tensor(labels),
        "masks": masks,
        "iscrowd": torch.full((len(boxes),), int(crowd)),
    }


def detections(boxes: list[list[int]], labels: list[int], scores: list[float]) -> Objects:
    answer = objects(boxes, labels)
    del answer["iscrowd"]
    return answer | {"scores": torch.tensor(scores)}


def test_detections_in_crowds_are_ignored() -> None:
    """Though it is the most certain, it takes nothing from what is right."""
    crowded = (
        objects([[0, 0, 30, 30]], [1], crowd=True),
        detections([[2, 2, 12, 12]], [1], [0.99]),
    )
    single = objects([[0, 0, 10, 10]], [1]), detections([[0, 0, 10, 10]], [1], [0.9])
    assert compute_average_precision([crowded, single])["box AP"] == pytest.approx(1)


def coco_rows(image: int, boxes: list[list[int]], labels: list[int]) -> list[dict[str, Any]]:
    """Return objects as rows of COCO's files."""
    return [
        {
            "image_id": image,
            "category_id": label,
            "bbox": [left, top, right - left, bottom - top],
            "area": (right - left) * (bottom - top),
            "iscrowd": 0,
        }
        for (left, top, right, bottom), label in zip(boxes, labels, strict=True)
    ]


def test_average_precision_equals_pycocotools() -> None:
    torch.manual_seed(0)
    images, truth, answers = [], [], []
    for image in range(1, 21):
        corners = torch.randint(2, 20, (3, 2))
        boxes = torch.cat([corners, corners + torch.tensor([16, 12])], dim=1)
        moved = (boxes + torch.randint(-2, 3, (3, 4))).tolist()
        labels, scores = torch.randint(1, 4, (3,)).tolist(), torch.rand(3).tolist()
        images.append((objects(boxes.tolist(), labels), detections(moved, labels, scores)))
        truth += coco_rows(image, boxes.tolist(), labels)
        for row, score in zip(coco_rows(image, moved, labels), scores, strict=True):
            answers.append(row | {"score": score})
    coco = import_pycocotools_module("coco").COCO()
    coco.dataset = {
        "info": {},
        "images": [{"id": image} for image in range(1, 21)],
        "categories": [{"id": label} for label in (1, 2, 3)],
        "annotations": [row | {"id": number} for number, row in enumerate(truth, 1)],
    }
    coco.createIndex()
    evaluated = import_pycocotools_module("cocoeval").COCOeval(coco, coco.loadRes(answers), "bbox")
    evaluated.evaluate()
    evaluated.accumulate()
    evaluated.summarize()
    ours = compute_average_precision(images)
    assert 0.1 < ours["box AP"] < 0.9
    assert (ours["box AP"], ours["box AP50"]) == pytest.approx(tuple(evaluated.stats[:2]))
    assert ours["mask AP"] == pytest.approx(ours["box AP"], abs=1e-9)  # the masks are the boxes


@settings(max_examples=8, deadline=None)
@given(row=st.integers(0, 7))
def test_boxes_fit_mirrored_masks(few: DetectionTask, row: int) -> None:
    rgb, inside = few.train[row]
    image, target = _make_detector_input(rgb, inside, mirrored=True)
    assert torch.equal(image.flip(-1), rgb)
    for mask, (left, top, right, bottom) in zip(
        target["masks"], target["boxes"].int().tolist(), strict=True
    ):
        assert mask[top:bottom, left:right].sum() == mask.sum()
        assert mask[:, left].any()
        assert mask[:, right - 1].any()


def test_crowds_are_not_trained_on() -> None:
    _, target = _make_detector_input(
        torch.zeros(3, SIDE, SIDE, dtype=torch.uint8),
        objects([[0, 0, 5, 5]], [1], crowd=True),
        mirrored=False,
    )
    assert target["boxes"].shape == (0, 4)


@pytest.fixture(scope="module")
def few() -> DetectionTask:
    """Scenes to learn by heart: the training part is also the test part."""
    part = [draw_scene(row, 96) for row in range(8)]
    heads = DetectionHeadSizes(
        channels=32,
        box_features=64,
        num_mask_layers=1,
        proposals_per_image=50,
        regions_per_image=16,
    )
    descent = DenseTrainingRecipe(
        epochs=18,
        batch_size=4,
        micro_batch_size=2,
        learning_rates=(2e-3,),
        milestones=(0.7, 0.9),
        layer_decay=0.9,
    )
    return DetectionTask(
        "few",
        CLASSES,
        part,
        part[:1],
        part,
        DetectionRecipe(side=96, heads=heads, trainings={0: descent}),
    )


@pytest.mark.slow
def test_detector_learns_its_training_images(few: DetectionTask) -> None:
    tower = build_image_tower("catlip-bench-tiny", 48, 0)
    before = {name: value.clone() for name, value in tower.state_dict().items()}
    subject = toy_subject(tower)
    found = {metric.name: metric for metric in score_detection(subject, few)}
    assert list(found) == ["box AP", "box AP50", "mask AP", "mask AP50"]
    assert found["box AP"].value > 0.1
    assert (found["box AP"].num_train, found["box AP"].num_test) == (9, 8)
    training = found["box AP"].training
    assert training is not None
    assert (training.batch_size, training.layer_decay, training.image_size) == (4, 0.9, 96)
    assert all(torch.equal(value, before[name]) for name, value in tower.state_dict().items())
