"""Which way stripes run, told by the nearest mean of a class (Mensink et al. 2013, doi:10.1109/TPAMI.2013.83)."""

import numpy as np

from bench.interfaces.catalog import SINGLE_LABEL, Protocol, Task
from bench.interfaces.extensions import Extension

ANGLES = (0, 45, 90, 135)  # degrees


def load_stripes(cache):
    from bench.transfer.tasks.tasks import SingleLabelTask

    parts = (draw_part(seed, images) for seed, images in enumerate((80, 40, 120)))
    return SingleLabelTask("stripes", tuple(f"{angle} degrees" for angle in ANGLES), *parts)


def draw_part(seed, images):
    import torch

    from bench.transfer.tasks.image_sources import ArrayImageSource
    from bench.transfer.tasks.tasks import LabelledImages

    draw, labels = np.random.default_rng(seed), np.arange(images) % len(ANGLES)
    angle = np.radians(ANGLES)[labels, None, None]
    y, x = np.mgrid[:64, :64]
    period, phase = draw.uniform(6, 16, (images, 1, 1)), draw.uniform(0, 6.28, (images, 1, 1))
    waves = np.sin(6.28 / period * (x * np.cos(angle) + y * np.sin(angle)) + phase)
    grey = (127 + 100 * waves + draw.normal(0, 10, waves.shape)).clip(0, 255).astype(np.uint8)
    return LabelledImages(
        ArrayImageSource(torch.from_numpy(grey)[:, None].repeat(1, 3, 1, 1)), labels
    )


def score_nearest_mean(subject, task):
    from bench.transfer.classification.probe import make_score

    features = subject.embed(task.train.images)
    means = np.stack(
        [features[task.train.labels == label].mean(0) for label in range(len(task.classes))]
    )

    def is_correct(part):
        distances = np.linalg.norm(subject.embed(part.images)[:, None] - means, axis=2)
        return distances.argmin(1) == part.labels

    chosen, validation = (
        0.0,
        float(is_correct(task.validation).mean()),
    )  # there is no setting to choose
    correct, images = is_correct(task.test), len(task.train.labels)
    return [
        make_score(
            task, "nearest mean", chosen, validation, correct, converged=True, num_train=images
        )
    ]


EXTENSION = Extension(
    tasks=[Task("stripes", SINGLE_LABEL, load_stripes)],
    protocols=[Protocol("nearest-mean", SINGLE_LABEL, score_nearest_mean)],
)
