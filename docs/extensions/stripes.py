"""Which way stripes run, told by the nearest mean of a class (Mensink et al. 2013, doi:10.1109/TPAMI.2013.83)."""

import numpy as np

from bench.interfaces.catalog import SINGLE_LABEL, ScoringProtocol, TransferTask
from bench.interfaces.extensions import Extension

ANGLES = (0, 45, 90, 135)  # degrees


def load_stripes(cache):
    from bench.transfer.tasks.tasks import SingleLabelTask

    classes = tuple(f"{angle} degrees" for angle in ANGLES)
    train = draw_stripes(0, 80)
    validation = draw_stripes(1, 40)
    test = draw_stripes(2, 120)
    return SingleLabelTask("stripes", classes, train, validation, test)


def draw_stripes(seed, num_images):
    import torch

    from bench.transfer.tasks.image_sources import ArrayImageSource
    from bench.transfer.tasks.tasks import LabelledImages

    generator = np.random.default_rng(seed)
    labels = np.arange(num_images) % len(ANGLES)
    angle = np.radians(ANGLES)[labels, None, None]
    y, x = np.mgrid[:64, :64]
    period = generator.uniform(6, 16, (num_images, 1, 1))
    phase = generator.uniform(0, 6.28, (num_images, 1, 1))
    waves = np.sin(6.28 / period * (x * np.cos(angle) + y * np.sin(angle)) + phase)
    noise = generator.normal(0, 10, waves.shape)
    grey = (127 + 100 * waves + noise).clip(0, 255).astype(np.uint8)
    rgb = torch.from_numpy(grey)[:, None].repeat(1, 3, 1, 1)
    return LabelledImages(ArrayImageSource(rgb), labels)


def score_nearest_mean(subject, task):
    from bench.transfer.classification.probe import make_test_score

    features = subject.embed(task.train.images)
    means = np.stack(
        [features[task.train.labels == label].mean(0) for label in range(len(task.classes))]
    )

    def is_correct(part):
        distances = np.linalg.norm(subject.embed(part.images)[:, None] - means, axis=2)
        return distances.argmin(1) == part.labels

    validation = float(is_correct(task.validation).mean())
    score = make_test_score(
        task,
        "nearest mean",
        0.0,  # no setting is chosen on the validation part
        validation,
        is_correct(task.test),
        converged=True,
        num_train=len(task.train.labels),
    )
    return [score]


EXTENSION = Extension(
    tasks=[TransferTask("stripes", SINGLE_LABEL, load_stripes)],
    protocols=[ScoringProtocol("nearest-mean", SINGLE_LABEL, score_nearest_mean)],
)
