"""Experiments that run in a second."""

from pathlib import Path

import open_clip

from bench.environment.circumstances import RunCircumstances
from bench.experiment.config import Experiment, change
from bench.experiment.experiments import EXPERIMENTS

open_clip.add_model_config(Path(__file__).parent / "configs")
TWO_BLOCKS: dict[str, object] = {
    "tower": "two-blocks",
    "text_tower": "two-blocks",
    "teacher_tower": "random:two-blocks",
}
# Whose products take a CPU many times as long.
FP16: dict[str, object] = {
    "precision": "fp16",
    **TWO_BLOCKS,
}


def small(method: str, **changes: object) -> Experiment:
    """The tiny experiment of a method, smaller still."""
    fewer = {
        "batch_size": 16,
        "images_seen": 96,
        "warmup_images": 32,
        "untimed_steps": 1,
        "timed_windows": 2,
        "steps_per_window": 1,
    }
    return change(EXPERIMENTS[f"{method}-tiny"], **fewer | changes)


def few_images(method: str, **changes: object) -> Experiment:
    """A small experiment on 96 images of the pack: captions of all take longer to become targets than a few steps."""
    return small(method, **{"subset": "random:96"} | changes)


def two_blocks(method: str, **changes: object) -> Experiment:
    """A small experiment whose towers have two blocks; only a process that has imported this module can build them."""
    return small(method, **TWO_BLOCKS | changes)


def circumstances(**changes: object) -> RunCircumstances:
    """The circumstances of a run on a machine that no law depends on."""
    where = {
        "machine": "m",
        "device": "cpu",
        "threads": 2,
        "precision": "fp32",
        "compiled": False,
        "packages": {},
    }
    return RunCircumstances(**where | {"commit": "c", "started_at": "2026-01-01"} | changes)
