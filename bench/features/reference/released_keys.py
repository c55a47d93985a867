"""The keys of a released file of CoreNet: which of them a run uses, changes or leaves out, and why. No torch here."""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from bench.experiment.fields import PACK_DATA
from bench.experiment.recipes import DATACOMP_VOCABULARY
from bench.features.reference.records import ReleasedKey
from bench.labels.vocabulary import read_vocabulary, replace_unshipped_vocabulary

# Keys by the beginning of their names; the longest one counts.
USED = (
    *("common.accum_freq", "common.grad_clip", "common.log_freq"),
    *("common.mixed_precision", "common.mixed_precision_dtype"),
    *(
        "dataset.category",
        "dataset.multi_modal_img_text.context_length",
        "dataset.train_batch_size0",
    ),
    *(
        "image_augmentation.random_horizontal_flip.enable",
        "image_augmentation.random_resized_crop.scale",
    ),
    *("sampler.name", "sampler.vbs", "loss", "optim", "scheduler", "model", "ema", "stats.train"),
)
ANCHOR = "its value is repeated where it is used"
VALIDATION = "validation"
CHECKPOINTS = "no checkpoint is read or written"
ORDER = "this project chooses the images of a step"
PACK = "images, captions and labels are the pack's, in batches that are made before the timed steps"
SHARDS = "images are loaded by this project's loader from local tar files"
UNUSED = {
    "_anchor_context_length": ANCHOR,
    "_anchor_vocab_size": ANCHOR,
    "taskname": "a title",
    "common.run_label": "a name of folders",
    "common.auto_resume": CHECKPOINTS,
    "common.save_all_checkpoints": CHECKPOINTS,
    "common.save_interval_freq": CHECKPOINTS,
    "dataset.collate_fn_name_test": VALIDATION,
    "dataset.collate_fn_name_val": VALIDATION,
    "dataset.disable_val": VALIDATION,
    "dataset.eval_batch_size0": VALIDATION,
    "dataset.multi_modal_img_text.zero_shot_img_cls_dataset_name": VALIDATION,
    "dataset.root_val": VALIDATION,
    "dataset.val_batch_size0": VALIDATION,
    "text_tokenizer": "captions come as ids of the same vocabulary",
    "image_augmentation.center_crop": VALIDATION,
    "image_augmentation.random_resized_crop.enable": "every image is a random crop",
    "image_augmentation.random_resized_crop.interpolation": "this project scales images, bilinearly",
    "image_augmentation.resize": VALIDATION,
    "sampler.start_shuffling_from_epoch": ORDER,
    "sampler.use_shards": ORDER,
    "stats.checkpoint_metric": CHECKPOINTS,
    "stats.checkpoint_metric_max": CHECKPOINTS,
    "stats.val": VALIDATION,
}
# Keys of loading, with the end of their reason, which begins with `PACK` or `SHARDS`.
LOADING = {
    "dataset.collate_fn_name_train": "",
    "dataset.multi_modal_img_text.img_text_tar": "",
    "dataset.name": "",
    "dataset.persistent_workers": "",
    "dataset.pin_memory": ", on a GPU in pinned memory",
    "dataset.root_train": "",
    "dataset.wordnet_tagged_classification": "; label rows are as wide as the head",
    "dataset.workers": "",
}
NOT_MIXED = "mixed precision is off"
NO_OPTION = "CoreNet has no such option"
NO_CUDA = "CoreNet's autocast requires CUDA (corenet/engine/utils.py)"

# The smaller run for a CPU. CoreNet's mode "tiny" has dropout, which no released mode has.
TINY_SIZES = {
    f"sampler.vbs.{bound}crop_size_{side}": pixels
    for bound, pixels in {"": 32, "min_": 32, "max_": 64}.items()
    for side in ("width", "height")
}
TINY = TINY_SIZES | {
    "dataset.train_batch_size0": 8,
    "model.classification.vit.mode": "small",
    "model.text.transformer.model_dim": 128,
    "model.text.transformer.n_transformer_layers": 2,
}


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


def describe_keys(
    released: Mapping[str, Any], options: Mapping[str, Any], reasons: Mapping[str, str], data: str
) -> dict[str, ReleasedKey]:
    """Return what the options of a run on some data make of every key of a file.

    `reasons` say why keys were changed.
    """
    keys = dict[str, ReleasedKey]()
    source = PACK if data == PACK_DATA else SHARDS
    unused = UNUSED | {key: source + addition for key, addition in LOADING.items()}
    if not options["common.mixed_precision"]:
        unused["common.mixed_precision_dtype"] = NOT_MIXED
    for key, value in released.items():
        name = _longest_beginning(key, {*USED, *unused})
        text = json.dumps(value)
        if name is None:
            keys[key] = ReleasedKey(state="unclassified", released=text)
        elif name in unused or key not in options:
            keys[key] = ReleasedKey(
                state="not used", released=text, reason=unused.get(name, NO_OPTION)
            )
        elif options[key] != value:
            reason = reasons.get(key, "CoreNet sets it")
            keys[key] = ReleasedKey(
                state="changed", released=text, used=json.dumps(options[key]), reason=reason
            )
        else:
            keys[key] = ReleasedKey(state="used", released=text)
    return keys


def _longest_beginning(key: str, names: Iterable[str]) -> str | None:
    """Return the longest of the names that are the key or the beginning of its parts; None if there is none."""
    beginnings = [name for name in names if f"{key}.".startswith((f"{name}.", f"{name}["))]
    return max(beginnings, key=len, default=None)
