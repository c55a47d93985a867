"""Zero-shot classification, and retrieval of images and captions, by the cosine of image and text features."""

import re
from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from jaxtyping import Bool
from open_clip import OPENAI_IMAGENET_TEMPLATES
from torch import Tensor

from bench.console.console import UserError
from bench.features.lit.records import ZeroShotScore
from bench.towers.head_file import Prompts, TextEncoder
from bench.transfer.classification.transfer_init import make_class_prompts
from bench.transfer.feature_extractor import Embed
from bench.transfer.tasks.image_sources import ImageSource
from bench.transfer.tasks.tasks import SingleLabelTask

# Names of the retrieval of captions for images, and of images for captions.
IMAGE_TO_TEXT = "captions of images, R@1"
TEXT_TO_IMAGE = "images of captions, R@1"


def make_prompts(task: SingleLabelTask, templates: Sequence[str]) -> Prompts:
    """Return the prompts of each class of a task, by default from CLIP's templates for ImageNet.

    In a template "{}" stands for the name. UserError for a class whose name has no letter or digit.
    """
    for name in task.classes:
        if not re.search(r"[^\W_]", name):
            raise UserError(
                f"{task.name} has the class {name!r}: zero-shot needs the names of classes"
            )
    makers = [partial(text.replace, "{}") for text in templates]
    return make_class_prompts(task.classes, makers or OPENAI_IMAGENET_TEMPLATES)


@torch.no_grad()
def score_classification(
    texts: TextEncoder, embed: Embed, task: SingleLabelTask, prompts: Prompts
) -> ZeroShotScore:
    """Score which test images have the text features of their class nearest, by cosine.

    The features of a class are the normalised mean of the normalised features of its prompts.
    """
    classes = texts.encode_classes(prompts)
    nearest = (_project(texts, embed, task.test.images) @ classes.T).argmax(1)
    return _make_score(task.name, nearest.cpu().numpy() == task.test.labels, len(classes))


@torch.no_grad()
def score_retrieval_at_1(
    texts: TextEncoder, embed: Embed, images: ImageSource, captions: Sequence[str]
) -> list[ZeroShotScore]:
    """Score which images have their caption nearest of all, and which captions their image.

    An image with an equal caption is right, too.
    """
    cosines = _project(texts, embed, images) @ texts.encode(tuple(captions)).T
    names = np.array(captions)
    scores = []
    for task, nearest in ((IMAGE_TO_TEXT, cosines.argmax(1)), (TEXT_TO_IMAGE, cosines.argmax(0))):
        correct = names[nearest.cpu().numpy()] == names
        scores.append(_make_score(task, correct, len(names)))
    return scores


def _project(texts: TextEncoder, embed: Embed, images: ImageSource) -> Tensor:
    """Return the L2-normalised features of images in the space of texts."""
    features = torch.from_numpy(embed(images))
    return texts.pair.project(features.to(texts.pair.projection))


def _make_score(
    task: str, correct: Bool[np.ndarray, " items"], num_candidates: int
) -> ZeroShotScore:
    bits = "".join(map(str, correct.astype(int)))
    return ZeroShotScore(task=task, correct=bits, num_candidates=num_candidates)
