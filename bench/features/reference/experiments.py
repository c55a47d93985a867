"""The experiments that are compared with a reference. No torch here."""

from collections.abc import Sequence
from typing import Any

from bench.data.caption_lengths import WEB
from bench.experiment.config import Experiment, change
from bench.experiment.experiments import get_experiment
from bench.experiment.recipes import ADAPTED
from bench.experiment.settings import renamed_with_settings
from bench.features.reference import RELEASED_FILES, ReferenceName

REFERENCE_SETTINGS: dict[str, Any] = {
    "pack_caption_lengths": WEB,
    "batch_size": 8,
    "clip_norm": None,
    # With the warm-up the 20 steps whose losses are compared, and batches enough for bucketing.
    "timed_windows": 6,
    "steps_per_window": 3,
}
# Windows of a second or so on a GPU, with the losses that are compared.
GPU_WINDOWS = {"timed_windows": 3, "steps_per_window": 40}
TINY_WINDOWS = {"timed_windows": 3, "steps_per_window": 4, "untimed_steps": 2}


def reference_experiment(
    reference: ReferenceName, scale: str | None, settings: Sequence[str], *, on_gpu: bool
) -> Experiment:
    """Return the experiment that both open_clip or SuperClass and our code train; SuperClass in fp32.

    `scale` is the end of an experiment's name, such as vit-b16; by default ViT-B/32 for open_clip, and ViT-B/16 for
    SuperClass. Raises ValueError for a setting that cannot be compared.
    """
    fields = REFERENCE_SETTINGS | GPU_WINDOWS if on_gpu else REFERENCE_SETTINGS
    if reference == "open-clip":
        base = get_experiment(f"clip-{scale or 'vit-b32'}")
    else:
        base = get_experiment(f"superclass-{scale or 'vit-b16'}")
        fields = fields | {"subword_vocabulary": "all", "precision": "fp32", "compile": "off"}
        fields["name"] = f"{base.name}-superclass"
    experiment = renamed_with_settings(change(base, **fields), settings)
    if reference == "superclass" and experiment.runtime.precision != "fp32":
        raise ValueError("the authors' SuperClass is run in precision=fp32")
    return experiment


def released_experiments_by_file(
    scale: str | None, settings: Sequence[str], *, on_gpu: bool
) -> dict[str, Experiment]:
    """Return our recipe of each of CoreNet's files of a scale, by the file's path within a checkout.

    The default scale is "tiny" on a CPU, and vit-b16 on a GPU; both have the same files. A recipe is renamed if its
    windows or, on a CPU, its precision are changed. Raises ValueError for an unknown scale.
    """
    is_tiny = runs_corenet_at_tiny_scale(scale, on_gpu=on_gpu)
    size = "vit-b16" if is_tiny or scale is None else scale
    if size not in RELEASED_FILES:
        raise ValueError(f"--scale of corenet is tiny, {' or '.join(RELEASED_FILES)}, got {scale}")
    fields: dict[str, Any] = dict(TINY_WINDOWS) if is_tiny else {}
    if not on_gpu:
        fields["precision"] = "fp32"
    experiments = {}
    for method, file in RELEASED_FILES[size].items():
        recipe = get_experiment(f"{method}-{size}-datacomp")
        if fields:
            recipe = change(recipe, name=recipe.name + ADAPTED, **fields)
        experiments[file] = renamed_with_settings(recipe, settings)
    return experiments


def runs_corenet_at_tiny_scale(scale: str | None, *, on_gpu: bool) -> bool:
    """Return whether corenet runs at the tiny scale, its default on a CPU."""
    return scale == "tiny" or (scale is None and not on_gpu)
