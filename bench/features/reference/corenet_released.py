"""The authors' training loop with their configuration file, as a checkout of apple/corenet runs it on one device.

The pipeline builds model, loss, optimizer, schedule, moving average and gradient scaler from the file, and its trainer
takes the steps: `corenet/train_eval_pipelines/default_train_eval.py` and `corenet/engine/default_trainer.py` at
1aa3acd. This module only hands it batches (released_batches.py) and times windows of them.
"""

import json
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from bench.environment.circumstances import current_commit
from bench.experiment.config import Experiment
from bench.experiment.recipes import DATACOMP_VOCABULARY
from bench.features.reference import CORENET
from bench.features.reference.corenet import import_corenet
from bench.features.reference.records import TOWER_KEY, ReleasedRun
from bench.features.reference.released_batches import (
    TimedLoader,
    batch_function,
    draw_sizes,
    open_stream,
)
from bench.features.reference.timing import WindowTimer
from bench.labels.vocabulary import read_vocabulary, replace_unshipped_vocabulary
from bench.profilers.device import Readings, open_reader, sampled
from bench.profilers.nvml import VOIDING_SLOWDOWNS
from bench.train.build import log_workers, sample_counts

NO_CUDA = "CoreNet's autocast requires CUDA (corenet/engine/utils.py)"
# Keys that no step of a run reads, by the beginning of their names: of loading, which is this project's, of validation
# and of checkpoints.
UNUSED_KEYS = (
    *("_anchor_", "taskname", "common.run_label", "common.auto_resume", "common.save_"),
    *("dataset.collate_fn_name_", "dataset.disable_val", "dataset.eval_batch_size0"),
    *("dataset.multi_modal_img_text.img_text_tar", "dataset.multi_modal_img_text.zero_shot_"),
    *("dataset.name", "dataset.persistent_workers", "dataset.pin_memory", "dataset.root_"),
    *("dataset.val_batch_size0", "dataset.wordnet_tagged_classification", "dataset.workers"),
    *("text_tokenizer", "image_augmentation.center_crop", "image_augmentation.resize"),
    *("image_augmentation.random_resized_crop.enable", "sampler.start_shuffling_from_epoch"),
    *("image_augmentation.random_resized_crop.interpolation", "sampler.use_shards"),
    *("stats.checkpoint_metric", "stats.val"),
)
# The smaller run for a CPU. CoreNet's mode "tiny" has dropout, which no released mode has.
TINY = {
    "sampler.vbs.crop_size_width": 32,
    "sampler.vbs.crop_size_height": 32,
    "sampler.vbs.min_crop_size_width": 32,
    "sampler.vbs.min_crop_size_height": 32,
    "sampler.vbs.max_crop_size_width": 64,
    "sampler.vbs.max_crop_size_height": 64,
    "dataset.train_batch_size0": 8,
    TOWER_KEY: "small",
    "model.text.transformer.model_dim": 128,
    "model.text.transformer.n_transformer_layers": 2,
}
SPAWNED = "_launcher_distributed_spawn_fn"  # method of CoreNet's pipeline that each of its processes executes
LOADERS = "_train_val_loader_sampler"  # field of CoreNet's pipeline with the loader of its trainer


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
    # Names that torch has renamed.
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"corenet\.")
    timing = experiment.timing
    windows = WindowTimer(
        device, timing.steps_per_window, timing.windows, timing.warmup_steps, is_heated=False
    )
    losses = list[Tensor]()
    figures = dict[str, Any]()  # of the record

    def take_steps(pipeline: Any) -> None:
        options = pipeline.opts
        figures["changed"] = describe_changes(released, dict(flatten(vars(options))), reasons)
        sizes = draw_sizes(
            options, round_, timing.warmup_steps + timing.windows * timing.steps_per_window
        )
        stream = open_stream(options, experiment, device, results, sizes)
        if round_ == 0:
            log_workers(stream)
        loader = TimedLoader(
            windows, batch_function(stream, sizes, is_pinned=device.type == "cuda")
        )
        vars(pipeline)[LOADERS] = loader, None, None
        trainer = pipeline.training_engine
        trainer.criteria.register_forward_hook(
            lambda _loss, _inputs, values: losses.append(values["total_loss"].detach())
        )
        with sampled(open_reader(device), device) as readings:
            trainer.train_epoch(round_)
        waited = sum(loader.wait_seconds[timing.warmup_steps :])
        figures["data_wait_share"] = waited / sum(windows.seconds)
        figures["throttled_percent"] = throttled_percent(readings, device)
        step_images = [images for _, images in sizes]
        figures["window_images"] = tuple(
            sum(step_images[start : start + timing.steps_per_window])
            for start in range(timing.warmup_steps, len(sizes), timing.steps_per_window)
        )
        figures.update(sample_counts(stream))

    try:
        with TemporaryDirectory() as folder:
            pipeline, released, reasons = open_pipeline(
                checkout, file, Path(folder), device, is_tiny=is_tiny
            )
            launch(pipeline, take_steps)
    except SystemExit as error:  # of CoreNet's `logger.error`
        raise RuntimeError(f"{checkout}: {error.code}") from None
    return ReleasedRun(
        repository=CORENET,
        commit=current_commit(checkout),
        file=file,
        file_sha256=sha256((checkout / file).read_bytes()).hexdigest(),
        gpus=1,
        round=round_,
        window_seconds=tuple(windows.seconds),
        losses=tuple(torch.stack(losses).tolist()),
        **figures,
    )


def throttled_percent(readings: Readings, device: torch.device) -> float | None:
    """Return the largest share of readings, in percent, with a slowdown by heat or hardware; None: a GPU gave none."""
    if device.type == "cpu":
        return 0.0
    percents = [readings.figures[name] for name in VOIDING_SLOWDOWNS if name in readings.figures]
    return max(percents) if len(percents) == len(VOIDING_SLOWDOWNS) else None


def tiny_changes(released: Iterable[str]) -> dict[str, Any]:
    """Return the keys of a file that the tiny scale changes, with their values; the head has the pack's labels."""
    rows = len(read_vocabulary(replace_unshipped_vocabulary(DATACOMP_VOCABULARY)).labels)
    changes = TINY | {"model.classification.n_classes": rows}
    return {key: changes[key] for key in released if key in changes}


def flatten(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the leaves of nested dictionaries, and of lists of them, by dotted names."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from flatten(item, f"{prefix}.{key}" if prefix else key)
    elif isinstance(value, list) and value and isinstance(value[0], Mapping):
        for index, item in enumerate(value):
            yield from flatten(item, f"{prefix}[{index}]")
    else:
        yield prefix, value


def describe_changes(
    released: Mapping[str, Any], options: Mapping[str, Any], reasons: Mapping[str, str]
) -> dict[str, str]:
    """Return the keys of a file whose value in the options of a run is another one: both values and the reason."""
    changes = {}
    for key, value in released.items():
        if key.startswith(UNUSED_KEYS) or options.get(key, value) == value:
            continue
        values = f"used {json.dumps(options[key])}, released {json.dumps(value)}"
        changes[key] = f"{values}: {reasons.get(key, 'CoreNet sets it')}"
    return changes


def open_pipeline(
    checkout: Path, file: str, folder: Path, device: torch.device, *, is_tiny: bool
) -> tuple[Any, dict[str, Any], dict[str, str]]:
    """Return CoreNet's pipeline with a file's options, the file's keys and values, and why some are changed."""
    from corenet.options.opts import get_training_arguments
    from corenet.train_eval_pipelines.default_train_eval import DefaultTrainEvalPipeline

    yaml: Any = import_module("yaml")  # CoreNet requires it
    released = dict(flatten(yaml.safe_load((checkout / file).read_text(encoding="utf-8"))))
    changes = tiny_changes(released) if is_tiny else {}
    reasons = dict.fromkeys(changes, "the tiny scale")
    if device.type == "cpu":
        changes["common.mixed_precision"] = False
        reasons["common.mixed_precision"] = NO_CUDA
    arguments = ["--common.config-file", str(checkout / file), "--common.results-loc", str(folder)]
    arguments += ["--ddp.world-size", "1", "--ddp.dist-url", f"file://{folder / 'rendezvous'}"]
    options = get_training_arguments(args=arguments)
    vars(options).update(changes)
    return DefaultTrainEvalPipeline(options), released, reasons


def launch(pipeline: Any, take_steps: Callable[[Any], None]) -> None:
    """Call a function with the pipeline as CoreNet's launcher does: with a process group of one on a GPU."""
    launcher = pipeline.launcher  # sets device, seeds, folders and TF32 of products
    if not vars(pipeline.opts)["ddp.use_distributed"]:
        launcher(take_steps)
        return
    try:
        getattr(pipeline, SPAWNED)(0, take_steps, pipeline)
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()
