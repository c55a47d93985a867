"""Batches for the authors' training loop, of the sizes that CoreNet's sampler draws: of the pack, or of tar shards."""

import time
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bench.data.image_sizes import BatchShape, BatchShapes, BatchShapeSchedule
from bench.data.released_labels import DenseLabels
from bench.data.sample_stream import SampleStream
from bench.data.stream import BatchStream
from bench.data.transforms import WHITE, denormalise
from bench.experiment.config import Experiment, change
from bench.experiment.fields import PACK_DATA
from bench.features.reference.timing import WindowTimer
from bench.labels.vocabulary import replace_unshipped_vocabulary
from bench.train.build import open_batch_stream

IGNORED_LABEL = -1  # the class of an image-text pair, which CLIP's loss does not read


@dataclass(frozen=True, slots=True)
class CorenetBatch:
    """A batch for CoreNet's trainer, on the CPU: images with captions for CLIP, or with labels for CatLIP."""

    images: Tensor  # values from 0 to 1
    tokens: Tensor | None  # token ids of the captions; None: labels
    targets: Tensor  # rows of labels, or a class of each image that CLIP's loss does not read

    def pin(self) -> "CorenetBatch":
        """Return the batch in pinned memory, as CoreNet's loader hands it over."""
        tokens = None if self.tokens is None else self.tokens.pin_memory()
        return CorenetBatch(self.images.pin_memory(), tokens, self.targets.pin_memory())

    def to_corenet_format(self) -> dict[str, Any]:
        """Return new dictionaries in the form of CoreNet's collate functions; the trainer changes them."""
        if self.tokens is None:
            return {"samples": self.images, "targets": self.targets}
        samples = {"image": self.images, "text": self.tokens, "padding_mask": None}
        return {"samples": samples, "targets": self.targets}


@dataclass(slots=True)
class CorenetTimedLoader:
    """The loader of CoreNet's trainer; windows end where it requests the next batch.

    A thread loads the next batch while the trainer takes a step.
    """

    timer: WindowTimer
    load_batch: Callable[[int], CorenetBatch]  # by number of the step
    # Seconds that each step waited for its batch.
    wait_seconds: list[float] = field(default_factory=list, init=False)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield the batches of all steps."""
        with ThreadPoolExecutor(1) as thread:
            loading = thread.submit(self.load_batch, 0)
            for k in self.timer.yield_and_time_steps():
                start = time.perf_counter()
                batch = loading.result()
                self.wait_seconds.append(time.perf_counter() - start)
                loading = thread.submit(self.load_batch, k + 1)
                yield batch.to_corenet_format()


def draw_step_sizes(options: Namespace, epoch: int, num_steps: int) -> BatchShapes:
    """Return the image side and the number of images of each step, as CoreNet's sampler draws them in an epoch."""
    from corenet.data.sampler import build_sampler

    sampler = build_sampler(options, n_data_samples=1, is_training=True)
    sampler.set_epoch(epoch)
    largest_batch = max(images for *_, images in sampler.img_batch_tuples)
    gpus = max(1, torch.cuda.device_count())
    # An epoch of all steps, on each GPU of the machine.
    num_samples = num_steps * largest_batch * gpus
    sampler.update_indices(list(range(num_samples)))
    sizes = []
    for batch in islice(sampler, num_steps):
        height, *_ = batch[0]  # of its square images
        sizes.append(BatchShape(height, len(batch)))
    return tuple(sizes)


def open_corenet_stream(
    options: Namespace,
    experiment: Experiment,
    device: torch.device,
    results: Path,
    sizes: BatchShapes,
) -> BatchStream[Any]:
    """Open an experiment's data for steps of the sizes, with CoreNet's crops, flips, context and rows of labels.

    Shards are loaded by as many workers as in `open_batch_stream`; batches of the pack are made on the CPU.
    """
    values = vars(options)
    fields = {
        "crop_scale": tuple(values["image_augmentation.random_resized_crop.scale"]),
        "flip": values["image_augmentation.random_horizontal_flip.enable"],
    }
    if experiment.method == "clip":
        fields["context_length"] = values["dataset.multi_modal_img_text.context_length"]
    else:
        vocabulary = replace_unshipped_vocabulary(experiment.targets.synset_vocabulary)
        fields["synset_vocabulary"] = vocabulary
        fields["synset_label_format"] = "dense"
        fields["padded_head_rows"] = values["model.classification.n_classes"]
    if experiment.input.data == PACK_DATA:
        device = torch.device("cpu")
    return open_batch_stream(
        change(experiment, **fields), device, results, BatchShapeSchedule(sizes)
    )


def make_batch_function(
    stream: BatchStream[Any], sizes: Sequence[BatchShape], *, is_pinned: bool
) -> Callable[[int], CorenetBatch]:
    """Return a function that returns the batch of a step, given the step's number.

    The function loads a batch of shards when it is called. Batches of the pack are made here, one for each size.
    """

    def load(k: int) -> CorenetBatch:
        if isinstance(stream, SampleStream):
            parts = stream.load_batch_parts(k)
            images = parts.images.contiguous() / WHITE
            target = parts.target
        else:
            batch = stream.batch(k)
            images = denormalise(batch.images)
            target = batch.target
        if isinstance(target, DenseLabels):
            assert target.values is not None
            loaded = CorenetBatch(images, None, target.values)
        else:
            (ids,) = target.groups
            labels = torch.full((len(images),), IGNORED_LABEL)
            loaded = CorenetBatch(images, ids[target.inverse_permutation], labels)
        return loaded.pin() if is_pinned else loaded

    if isinstance(stream, SampleStream):
        return load
    batches = {size: load(sizes.index(size)) for size in set(sizes)}
    return lambda k: batches[sizes[k % len(sizes)]]
