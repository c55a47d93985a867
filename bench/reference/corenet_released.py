"""The authors' training loop with their configuration file, as a checkout of apple/corenet runs it on one device.

The pipeline builds model, loss, optimizer, schedule, moving average and gradient scaler from the file, and its trainer
takes the steps: `corenet/train_eval_pipelines/default_train_eval.py` and `corenet/engine/default_trainer.py` at
1aa3acd. This module only hands it batches, of the sizes that CoreNet's sampler draws, and times windows of them.
"""

import subprocess
import warnings
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from importlib import import_module
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import torch.distributed as dist
from msgspec.structs import replace
from torch import Tensor

from bench.config import Experiment
from bench.data.released_labels import make_multi_hot
from bench.data.stream import PackStream, augment
from bench.data.transforms import denormalise
from bench.environment.seeds import AUGMENTATION, seed_for
from bench.record import ReleasedKey, ReleasedRun
from bench.reference import CORENET
from bench.reference.corenet import import_corenet
from bench.reference.released_keys import NO_CUDA, describe_keys, flatten, list_changes, tiny_changes
from bench.reference.timing import WindowTimer
from bench.train.build import load_data

SPAWNED = "_launcher_distributed_spawn_fn"  # of CoreNet's pipeline: what each of its processes executes
LOADERS = "_train_val_loader_sampler"  # of CoreNet's pipeline: what its trainer takes its batches from
IGNORED_LABEL = -1  # the class of an image-text pair, which CLIP's loss does not read
Size = tuple[int, int, int]  # height, width and images of a step


@dataclass(frozen=True, slots=True)
class ReleasedBatch:
    """Images, and captions' token ids or rows of labels, on the CPU."""

    images: Tensor
    tokens: Tensor | None  # None: labels
    targets: Tensor

    def pinned(self) -> "ReleasedBatch":
        """Return the batch in pinned memory, as CoreNet's loader hands it over."""
        tokens = None if self.tokens is None else self.tokens.pin_memory()
        return ReleasedBatch(self.images.pin_memory(), tokens, self.targets.pin_memory())

    def as_corenet(self) -> dict[str, Any]:
        """Return it in the form of CoreNet's collate functions; the trainer overwrites the dictionaries."""
        samples = {"image": self.images, "text": self.tokens, "padding_mask": None}
        return {"samples": self.images if self.tokens is None else samples, "targets": self.targets}


@dataclass(slots=True)
class TimedLoader:
    """The loader of CoreNet's trainer; windows end where it requests the next batch."""

    windows: WindowTimer
    sizes: Sequence[Size]  # of each step
    batches: Mapping[Size, ReleasedBatch]  # steps of one size share a batch

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for k in self.windows.time_steps():
            yield self.batches[self.sizes[k]].as_corenet()


def run_as_released(
    experiment: Experiment,
    device: torch.device,
    results: Path,
    checkout: Path,
    file: str,
    round_: int,
    *,
    is_tiny: bool,
) -> ReleasedRun:
    """Run CoreNet's trainer with a file of its checkout for the warm-up and the windows of an experiment.

    Round r has the sizes that CoreNet's sampler draws in epoch r. Nothing of the file is changed but what a CPU and the
    tiny scale change. Raises RuntimeError where the checkout's code reports an error.
    """
    import_corenet(checkout)
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"corenet\.")  # names that torch has renamed
    windows = WindowTimer(device, experiment.steps_per_window, experiment.windows, experiment.warmup_steps)
    steps = experiment.warmup_steps + experiment.windows * experiment.steps_per_window
    losses, norms = list[Tensor](), list[Tensor | None]()
    sizes, keys = list[Size](), dict[str, ReleasedKey]()

    def take_steps(pipeline: Any) -> None:
        keys.update(describe_keys(released, dict(flatten(vars(pipeline.opts))), reasons))
        drawn, batches = prepare_batches(pipeline.opts, experiment, results, round_, steps)
        sizes.extend(drawn)
        if device.type == "cuda":
            batches = {size: batch.pinned() for size, batch in batches.items()}
        vars(pipeline)[LOADERS] = TimedLoader(windows, sizes, batches), None, None
        trainer = pipeline.training_engine
        trainer.criteria.register_forward_hook(
            lambda _loss, _inputs, values: losses.append(values["total_loss"].detach())
        )
        compute_norm = trainer.compute_grad_norm

        def keep_norm() -> Tensor | None:
            norms.append(compute_norm())
            return norms[-1]

        trainer.compute_grad_norm = keep_norm
        trainer.train_epoch(round_)

    try:
        with TemporaryDirectory() as folder:
            pipeline, released, reasons = open_pipeline(checkout, file, Path(folder), device, is_tiny=is_tiny)
            launch(pipeline, take_steps)
    except SystemExit as error:
        if not isinstance(error.code, str):  # with a text it is CoreNet's `logger.error`
            raise
        raise RuntimeError(f"{checkout}: {error.code}") from None
    images = [images for *_, images in sizes[experiment.warmup_steps :]]
    per_window = experiment.steps_per_window
    return ReleasedRun(
        repository=CORENET,
        commit=commit_of(checkout),
        file=file,
        file_sha256=sha256((checkout / file).read_bytes()).hexdigest(),
        keys=keys,
        changed=list_changes(keys),
        gpus=1,
        round=round_,
        window_images=tuple(sum(images[k : k + per_window]) for k in range(0, len(images), per_window)),
        window_seconds=tuple(windows.seconds),
        image_sizes=tuple(sizes),
        losses=tuple(torch.stack(losses).tolist()),
        gradient_norms=tuple(None if norm is None else norm.item() for norm in norms),
    )


def open_pipeline(
    checkout: Path, file: str, folder: Path, device: torch.device, *, is_tiny: bool
) -> tuple[Any, dict[str, Any], dict[str, str]]:
    """Return CoreNet's pipeline with a file's options, the file's keys and values, and why some are changed."""
    from corenet.options.opts import get_training_arguments
    from corenet.train_eval_pipelines.default_train_eval import DefaultTrainEvalPipeline

    yaml: Any = import_module("yaml")  # CoreNet requires it
    released = dict(flatten(yaml.safe_load((checkout / file).read_text(encoding="utf-8"))))
    changes, reasons = dict[str, Any](), dict[str, str]()
    if is_tiny:
        changes = tiny_changes(released)
        reasons = dict.fromkeys(changes, "the tiny scale")
    if device.type == "cpu":
        changes["common.mixed_precision"], reasons["common.mixed_precision"] = False, NO_CUDA
    arguments = ["--common.config-file", str(checkout / file), "--common.results-loc", str(folder)]
    arguments += ["--ddp.world-size", "1", "--ddp.dist-url", f"file://{folder / 'rendezvous'}"]
    options = get_training_arguments(args=arguments)
    vars(options).update(changes)
    return DefaultTrainEvalPipeline(options), released, reasons


def launch(pipeline: Any, take_steps: Callable[[Any], None]) -> None:
    """Call a function with the pipeline as CoreNet's launcher does: with a process group of one on a GPU."""
    launcher = pipeline.launcher  # sets device, seeds, folders and the precision of TF32
    if not vars(pipeline.opts)["ddp.use_distributed"]:
        launcher(take_steps)
        return
    torch.backends.cudnn.allow_tf32 = True  # torch's default, which CoreNet leaves
    try:
        getattr(pipeline, SPAWNED)(0, take_steps, pipeline)
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def prepare_batches(
    options: Namespace, experiment: Experiment, results: Path, epoch: int, steps: int
) -> tuple[list[Size], dict[Size, ReleasedBatch]]:
    """Return the size of each step as CoreNet's sampler draws them in an epoch, and a batch of the pack for each size.

    Crops, flips and the context's length are those of the options. ValueError for images that are not square.
    """
    from corenet.data.sampler import build_sampler

    chosen = vars(options)
    scale = chosen["image_augmentation.random_resized_crop.scale"]
    fields = {"crop_scale": tuple(scale), "flip": chosen["image_augmentation.random_horizontal_flip.enable"]}
    if experiment.method == "clip":
        fields["context_length"] = chosen["dataset.multi_modal_img_text.context_length"]
    stream = load_data(replace(experiment, **fields), torch.device("cpu"), results)
    assert isinstance(stream, PackStream)
    sampler = build_sampler(options, n_data_samples=len(stream.pixels), is_training=True)
    sampler.set_epoch(epoch)
    largest, gpus = max(images for *_, images in sampler.img_batch_tuples), max(1, torch.cuda.device_count())
    sampler.update_indices([*range(steps * largest * gpus)])  # an epoch of all steps, on each GPU of the machine
    drawn = [*islice(sampler, steps)]
    sizes = [(*batch[0][:2], len(batch)) for batch in drawn]
    first_drawn = dict(zip(reversed(sizes), reversed(drawn), strict=True))
    num_labels, num_images = chosen["model.classification.n_classes"], len(stream.pixels)
    rows = {size: torch.tensor([row % num_images for *_, row in batch]) for size, batch in first_drawn.items()}
    return sizes, {size: _make_batch(stream, size, of_size, num_labels) for size, of_size in rows.items()}


def _make_batch(stream: PackStream[Any], size: Size, rows: Tensor, num_labels: int) -> ReleasedBatch:
    height, width, _ = size
    if height != width:
        raise ValueError(f"images of the pack are square, got a size of {height} x {width} px")
    generator = torch.Generator().manual_seed(seed_for(stream.experiment.seed, AUGMENTATION, height))
    images = denormalise(augment(stream.pixels[rows], stream.experiment, height, generator))
    if stream.experiment.method == "clip":
        (ids,) = stream.targets.groups
        return ReleasedBatch(images, ids[rows], torch.full((len(rows),), IGNORED_LABEL))
    return ReleasedBatch(images, None, make_multi_hot(stream.targets.select(rows), num_labels))


def commit_of(checkout: Path) -> str:
    """Return the commit of a checkout, with "+changes" if its files differ from it; "unknown" outside git."""
    git = ["git", "-C", str(checkout)]
    try:
        top, commit = _output([*git, "rev-parse", "--show-toplevel", "HEAD"]).split()
        changes = _output([*git, "status", "--porcelain"])
    except (OSError, ValueError, subprocess.CalledProcessError):
        return "unknown"
    if Path(top) != checkout.resolve():  # the folder lies in another repository
        return "unknown"
    return commit + "+changes" * bool(changes)


def _output(command: Sequence[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout
