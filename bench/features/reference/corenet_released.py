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
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from bench.environment.circumstances import describe_current_commit
from bench.experiment.config import Experiment
from bench.experiment.recipes import DATACOMP_VOCABULARY
from bench.features.reference import CORENET
from bench.features.reference.corenet import make_corenet_importable
from bench.features.reference.released_batches import (
    CorenetTimedLoader,
    draw_step_sizes,
    make_batch_function,
    open_corenet_stream,
)
from bench.features.reference.timing import WindowTimer
from bench.labels.vocabulary import read_vocabulary, replace_unshipped_vocabulary
from bench.profilers.device import DeviceReadings, make_device_gauges, sample_device_during_block
from bench.profilers.nvml import VOIDING_SLOWDOWNS
from bench.records.record import TOWER_KEY, ReleasedRun
from bench.train.build import log_loader_workers, make_sample_record_fields

NO_CUDA = "CoreNet's autocast requires CUDA (corenet/engine/utils.py)"
# Beginnings of the keys that no step of a run reads. They set loading, which is this project's, validation, and
# checkpoints.
UNUSED_KEYS = (
    "_anchor_",
    "common.auto_resume",
    "common.run_label",
    "common.save_",
    "dataset.collate_fn_name_",
    "dataset.disable_val",
    "dataset.eval_batch_size0",
    "dataset.multi_modal_img_text.img_text_tar",
    "dataset.multi_modal_img_text.zero_shot_",
    "dataset.name",
    "dataset.persistent_workers",
    "dataset.pin_memory",
    "dataset.root_",
    "dataset.val_batch_size0",
    "dataset.wordnet_tagged_classification",
    "dataset.workers",
    "image_augmentation.center_crop",
    "image_augmentation.random_resized_crop.enable",
    "image_augmentation.random_resized_crop.interpolation",
    "image_augmentation.resize",
    "sampler.start_shuffling_from_epoch",
    "sampler.use_shards",
    "stats.checkpoint_metric",
    "stats.val",
    "taskname",
    "text_tokenizer",
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


def run_corenet_as_released(
    experiment: Experiment,
    device: torch.device,
    results: Path,
    checkout: str,
    config_file: str,
    round_: int,
    *,
    is_tiny: bool,
) -> ReleasedRun:
    """Run CoreNet's trainer with a configuration file of its checkout, for an experiment's data, warm-up and windows.

    Round r has the sizes that CoreNet's sampler draws in epoch r. The file's values are used unchanged, except on a CPU
    and at the tiny scale. Raises RuntimeError where the checkout's code reports an error.
    """
    folder_of_code = Path(checkout)
    make_corenet_importable(folder_of_code)
    # Names that torch has renamed.
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"corenet\.")
    timing = experiment.timing
    timer = WindowTimer(
        device, timing.steps_per_window, timing.timed_windows, timing.untimed_steps, heats_gpu=False
    )
    num_steps = timing.untimed_steps + timing.timed_windows * timing.steps_per_window
    losses = list[Tensor]()
    figures = dict[str, Any]()  # of the record

    def take_steps(pipeline: Any) -> None:
        """Run the trainer, and store losses and figures."""
        options = pipeline.opts
        used = dict(flatten_options(vars(options)))
        figures["changed"] = describe_changed_options(released, used, reasons)
        sizes = draw_step_sizes(options, round_, num_steps)
        stream = open_corenet_stream(options, experiment, device, results, sizes)
        if round_ == 0:
            log_loader_workers(stream)
        load_batch = make_batch_function(stream, sizes, is_pinned=device.type == "cuda")
        loader = CorenetTimedLoader(timer, load_batch)
        vars(pipeline)[LOADERS] = loader, None, None
        trainer = pipeline.training_engine
        trainer.criteria.register_forward_hook(
            lambda _loss, _inputs, values: losses.append(values["total_loss"].detach())
        )
        with sample_device_during_block(make_device_gauges(device), device) as readings:
            trainer.train_epoch(round_)
        waited = sum(loader.wait_seconds[timing.untimed_steps :])
        figures["data_wait_share"] = waited / sum(timer.seconds)
        figures["throttled_percent"] = highest_throttled_percent(readings, device)
        step_images = [num_images for _, num_images in sizes]
        window_images = []
        for start in range(timing.untimed_steps, num_steps, timing.steps_per_window):
            end = start + timing.steps_per_window
            window_images.append(sum(step_images[start:end]))
        figures["window_images"] = tuple(window_images)
        figures.update(make_sample_record_fields(stream))

    try:
        with TemporaryDirectory() as folder:
            pipeline, released, reasons = build_corenet_pipeline(
                folder_of_code, config_file, Path(folder), device, is_tiny=is_tiny
            )
            run_as_corenet_launcher(pipeline, take_steps)
    except SystemExit as error:  # of CoreNet's `logger.error`
        raise RuntimeError(f"{checkout}: {error.code}") from None
    return ReleasedRun(
        repository=CORENET,
        commit=describe_current_commit(folder_of_code),
        file=config_file,
        file_sha256=sha256((folder_of_code / config_file).read_bytes()).hexdigest(),
        gpus=1,
        round=round_,
        window_seconds=tuple(timer.seconds),
        losses=tuple(torch.stack(losses).tolist()),
        **figures,
    )


def highest_throttled_percent(readings: DeviceReadings, device: torch.device) -> float | None:
    """Return the percentage of readings in which heat or hardware slowed the GPU, whichever is more often.

    0 on a CPU; None if a GPU gave no readings.
    """
    if device.type == "cpu":
        return 0.0
    figures = readings.figures
    if any(name not in figures for name in VOIDING_SLOWDOWNS):
        return None
    return max(figures[name] for name in VOIDING_SLOWDOWNS)


def select_tiny_values(released_keys: Iterable[str]) -> dict[str, Any]:
    """Return the values that the tiny scale gives to keys of a released file; the head has the pack's labels."""
    vocabulary = read_vocabulary(replace_unshipped_vocabulary(DATACOMP_VOCABULARY))
    changes = TINY | {"model.classification.n_classes": len(vocabulary.labels)}
    return {key: changes[key] for key in released_keys if key in changes}


def flatten_options(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (dotted name, value) of the leaves of nested dictionaries, and of lists of them."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from flatten_options(item, f"{prefix}.{key}" if prefix else key)
    elif isinstance(value, list) and value and isinstance(value[0], Mapping):
        for index, item in enumerate(value):
            yield from flatten_options(item, f"{prefix}[{index}]")
    else:
        yield prefix, value


def describe_changed_options(
    released: Mapping[str, Any], used: Mapping[str, Any], reasons: Mapping[str, str]
) -> dict[str, str]:
    """Return, by key, both values and the reason where the used options differ from the released file's.

    Keys that no step reads are left out.
    """
    descriptions = {}
    for key, released_value in released.items():
        used_value = used.get(key, released_value)
        if used_value == released_value or key.startswith(UNUSED_KEYS):
            continue
        reason = reasons.get(key, "CoreNet sets it")
        values = f"used {json.dumps(used_value)}, released {json.dumps(released_value)}"
        descriptions[key] = f"{values}: {reason}"
    return descriptions


class CorenetPipeline(NamedTuple):
    """CoreNet's training pipeline, built from a configuration file with a few changed values."""

    pipeline: Any  # DefaultTrainEvalPipeline
    released: dict[str, Any]  # values of the file, by key
    reasons: dict[str, str]  # why this project changes values, by key


def build_corenet_pipeline(
    checkout: Path, config_file: str, folder: Path, device: torch.device, *, is_tiny: bool
) -> CorenetPipeline:
    """Return CoreNet's pipeline with the options of a file of the checkout; it writes its results into `folder`."""
    from corenet.options.opts import get_training_arguments
    from corenet.train_eval_pipelines.default_train_eval import DefaultTrainEvalPipeline

    yaml: Any = import_module("yaml")  # CoreNet requires it
    path = checkout / config_file
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    released = dict(flatten_options(content))
    changes = select_tiny_values(released) if is_tiny else {}
    reasons = dict.fromkeys(changes, "the tiny scale")
    if device.type == "cpu":
        changes["common.mixed_precision"] = False
        reasons["common.mixed_precision"] = NO_CUDA
    arguments = ["--common.config-file", str(path), "--common.results-loc", str(folder)]
    arguments += ["--ddp.world-size", "1", "--ddp.dist-url", f"file://{folder / 'rendezvous'}"]
    options = get_training_arguments(args=arguments)
    vars(options).update(changes)
    return CorenetPipeline(DefaultTrainEvalPipeline(options), released, reasons)


def run_as_corenet_launcher(pipeline: Any, take_steps: Callable[[Any], None]) -> None:
    """Call `take_steps(pipeline)` as CoreNet's launcher does: with a process group of one on a GPU."""
    launcher = pipeline.launcher  # sets device, seeds, folders and TF32 of products
    if not vars(pipeline.opts)["ddp.use_distributed"]:
        launcher(take_steps)
        return
    try:
        getattr(pipeline, SPAWNED)(0, take_steps, pipeline)
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()
