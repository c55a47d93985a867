"""Records as a whole tiny comparison leaves them, made up: four methods, six rounds, five tasks, one seed or more."""

import html
import math
import random
import re
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from bench.environment.circumstances import RunCircumstances
from bench.experiment.config import Experiment, change
from bench.experiment.experiments import get_experiment
from bench.records.record import (
    CooledDownTower,
    Failure,
    Memory,
    Record,
    Speed,
    StepFlops,
    Training,
    TransferScores,
    record_path,
    write_record,
)
from bench.records.record_kind import AnyRecordContent, kind_tag
from bench.records.scores import AccuracyScore
from reports.page import render_comparison_page

COMPARISON = "2026-11-25-tiny"
NAMES = ("clip-tiny", "siglip-tiny", "catlip-tiny", "superclass-tiny")
# Seconds of a step of 128 images; forward FLOPs of the text tower and of the head.
FORWARD_BACKWARD = {
    "clip-tiny": 0.121,
    "siglip-tiny": 0.122,
    "catlip-tiny": 0.094,
    "superclass-tiny": 0.101,
}
UPDATE = {
    "clip-tiny": 0.0062,
    "siglip-tiny": 0.0061,
    "catlip-tiny": 0.0051,
    "superclass-tiny": 0.0078,
}
TEXT_FLOPS = {"clip-tiny": 410_000_000, "siglip-tiny": 410_000_000}
HEAD_FLOPS = {
    "clip-tiny": 6_000_000,
    "siglip-tiny": 6_000_000,
    "catlip-tiny": 88_000_000,
    "superclass-tiny": 214_000_000,
}
IMAGE_FLOPS = 3_900_000_000
# classes, test images, training images, accuracies: majority class, random-init baseline, HOG, raw pixels
TASKS = {
    "unseen subgroup": (8, 822, 3_288, 0.243, 0.437, 0.589, 0.512),
    "Twemoji subgroup": (23, 352, 1_408, 0.091, 0.241, 0.386, 0.301),
    "rooms": (10, 336, 1_344, 0.164, 0.382, 0.446, 0.411),
    "silhouettes 20 per class": (10, 2_000, 200, 0.1, 0.522, 0.691, 0.604),
    "silhouettes 100 per class": (10, 2_000, 1_000, 0.1, 0.617, 0.803, 0.731),
}
LEARNED = {"clip-tiny": 0.088, "siglip-tiny": 0.081, "catlip-tiny": 0.097, "superclass-tiny": 0.102}
HERE = RunCircumstances(
    machine="Example CPU 2.00 GHz, 2 logical cores, 8 GiB, Linux",
    device="cpu",
    threads=2,
    precision="fp32",
    compiled=False,
    packages={
        "python": "3.11.7",
        "torch": "2.9.1",
        "open_clip_torch": "3.3.0",
        "timm": "1.0.22",
        "numpy": "2.3.5",
    },
    commit="0123456789abcdef0123456789abcdef01234567",
    started_at="2026-11-25T01:00:00+00:00",
)


def new_record(measured: AnyRecordContent, experiment: Experiment | None) -> Record:
    return Record(
        comparison=COMPARISON, experiment=experiment, circumstances=HERE, measured=measured
    )


def speed_record(name: str, number: int, *, slower: float = 1.0) -> Record:
    experiment, chance = get_experiment(name), random.Random(f"{name} {number}")
    luck = slower * math.exp(chance.gauss(0, 0.008))

    def steps(seconds: float, many: int) -> tuple[float, ...]:
        return tuple(seconds * luck * math.exp(chance.gauss(0, 0.01)) for _ in range(many))

    step = FORWARD_BACKWARD[name] + UPDATE[name] + 0.0031
    text = TEXT_FLOPS.get(name, 0)
    forward = 128 * (IMAGE_FLOPS + text + HEAD_FLOPS[name]) // 128
    flops = StepFlops(
        image_forward=IMAGE_FLOPS, text_forward=text, forward=forward, step=3 * forward
    )
    speed = Speed(
        round=number,
        warmup_seconds=1.9 * luck,
        window_seconds=steps(
            step * experiment.timing.steps_per_window, experiment.timing.timed_windows
        ),
        phase_seconds=phases(name, steps),
        flops=flops,
        tokens_per_caption=13.4 if text else None,
        trained_parameters=803_328 + (1_240_000 if text else 190_000),
        tower_parameters=803_328,
        peak_flops_per_second=2.1e11 * luck,
        peak_source="best of ten 1024 x 1024 x 1024 fp32 matrix products measured in the same process",
        target_building_seconds=0.4 if text else 0.11,
        num_captions=17_420,
        utilisation={
            "process CPU busy percent": 97.0 + luck,
            "other processes CPU busy percent": 0.8,
        },
    )
    return new_record(speed, experiment)


def phases(
    name: str, steps: Callable[[float, int], tuple[float, ...]]
) -> dict[str, tuple[float, ...]]:
    text = 0.08 if name in TEXT_FLOPS else 0.0
    shares = {
        "image forward": 0.3,
        "text forward": text,
        "head and loss": 0.02,
        "backward": 0.68 - text,
    }
    towers = {
        phase: steps(share * FORWARD_BACKWARD[name], 8) for phase, share in shares.items() if share
    }
    return {"data": steps(0.0031, 8), **towers, "optimizer": steps(UPDATE[name], 8)}


def memory_record(name: str) -> Record:
    peak = {"clip-tiny": 402, "siglip-tiny": 398, "catlip-tiny": 287, "superclass-tiny": 331}[
        name
    ] * 2**20
    memory = Memory(
        steps=4,
        trained_parameters=2_000_000,
        peak_rss_bytes=peak,
        peak_allocated_bytes=None,
        peak_reserved_bytes=None,
        peak_tensor_bytes=peak - 40 * 2**20,
    )
    return new_record(memory, get_experiment(name))


def training_record(name: str, seed: int) -> Record:
    experiment, chance = change(get_experiment(name), seed=seed), random.Random(f"{name} {seed}")
    height = {"clip-tiny": 4.85, "siglip-tiny": 9.2, "catlip-tiny": 12.4, "superclass-tiny": 8.1}[
        name
    ]
    trunk = [
        height * (0.55 + 0.45 * math.exp(-step / 140)) + chance.gauss(0, 0.04 * height)
        for step in range(500)
    ]
    cool = [
        height * (0.55 - 0.05 * step / 125) + chance.gauss(0, 0.04 * height) for step in range(125)
    ]
    branch = CooledDownTower(images=80_000, budgets=("equal images",), tower="tower.safetensors")
    training = Training(
        trunk_losses=tuple(trunk), cooldown_losses=(tuple(cool),), branches=(branch,), seconds=91.2
    )
    return new_record(training, experiment)


def answers(num_test: int, accuracy: float, key: str) -> str:
    """Right or wrong for each image: hard images are hard for everyone, as in life."""
    hardness = np.random.default_rng(0).random(num_test)
    luck = np.random.default_rng(zlib.crc32(key.encode())).random(num_test)
    right = 0.8 * hardness + 0.2 * luck < accuracy
    return (right + np.uint8(ord("0"))).tobytes().decode()


def scores(accuracies: dict[str, float], key: str) -> tuple[AccuracyScore, ...]:
    return tuple(
        AccuracyScore(
            task=task,
            protocol=protocol,
            chosen=1.0 if protocol == "linear probe" else 10.0,
            validation_accuracy=share,
            converged=True,
            correct=answers(TASKS[task][1], share - lower, f"{key}{protocol}"),
            num_classes=TASKS[task][0],
            num_train=TASKS[task][2],
            majority=TASKS[task][3],
        )
        for task, share in accuracies.items()
        for protocol, lower in (("linear probe", 0.0), ("k-NN", 0.06))
    )


def transfer_records(seed: int) -> list[Record]:
    made = []
    for name in NAMES:
        experiment = change(get_experiment(name), seed=seed)
        more = (
            int(80_000 * FORWARD_BACKWARD["clip-tiny"] / FORWARD_BACKWARD[name]) // 128 * 128
            if name != "clip-tiny"
            else 80_000
        )
        branches = {20_000: (), 40_000: ("half of equal images",), 80_000: ("equal images",)}
        branches[more] = (*branches.get(more, ()), "equal device seconds")
        for images, budgets in branches.items():
            learned = LEARNED[name] * (1 - math.exp(-images / 30_000))
            found = {task: of[4] + learned for task, of in TASKS.items()}
            transfer = TransferScores(
                subject=name,
                images=images,
                budgets=budgets,
                scores=scores(found, f"{name}{seed}{images}"),
            )
            made.append(new_record(transfer, experiment))
    random_init = {task: of[4] for task, of in TASKS.items()}
    first = change(get_experiment("clip-tiny"), seed=seed)
    made.append(
        new_record(
            TransferScores(
                subject="random init", images=0, budgets=(), scores=scores(random_init, f"{seed}")
            ),
            first,
        )
    )
    return made


def reference_records() -> list[Record]:
    return [
        new_record(
            TransferScores(
                subject=subject,
                images=0,
                budgets=(),
                scores=scores({t: of[at] for t, of in TASKS.items()}, subject),
            ),
            None,
        )
        for subject, at in (("HOG and colour", 5), ("raw pixels", 6))
    ]


def failure_record(
    name: str = "superclass-tiny", reason: str = "killed by SIGKILL (out of memory?)"
) -> Record:
    return new_record(Failure(what="speed", reason=reason), get_experiment(name))


def whole_comparison(*, rounds: int = 6, seeds: int = 1) -> list[Record]:
    return [
        *(speed_record(name, number) for number in range(rounds) for name in NAMES),
        *(memory_record(name) for name in NAMES),
        *(training_record(name, seed) for seed in range(seeds) for name in NAMES),
        *(one for seed in range(seeds) for one in transfer_records(seed)),
        *reference_records(),
    ]


def write_records(records: Iterable[Record], results: Path) -> Path:
    """Write records as the harness does, one file a run."""
    results.mkdir(parents=True, exist_ok=True)
    for number, one in enumerate(records):
        kind = kind_tag(type(one.measured))
        name = one.experiment.name if one.experiment else getattr(one.measured, "subject", "none")
        write_record(one, record_path(results, one.comparison, kind, name, f"{number:03}"))
    return results


def first_screen(*arguments: Any, **options: Any) -> str:
    """Return a page without the sections below its answer."""
    with pytest.MonkeyPatch.context() as without:
        for sections in ("RESULTS", "BACKGROUND"):
            without.setattr(f"reports.page.{sections}", ())
        return render_comparison_page(*arguments, **options)


def short(record: Record) -> Record:
    """Return the record with its first score alone: one task, one protocol."""
    if not isinstance(record.measured, TransferScores):
        return record
    return replace(record, measured=replace(record.measured, scores=record.measured.scores[:1]))


@pytest.fixture(scope="session")
def whole() -> list[Record]:
    return whole_comparison()


@pytest.fixture(scope="session")
def whole_page(whole: list[Record]) -> str:
    return render_comparison_page("x", whole)


def words(text: str) -> str:
    """Return what a page says: no markup, one blank between words."""
    shown = re.sub(r"<style>.*?</style>|<script>.*?</script>|<[^>]*>", " ", text, flags=re.DOTALL)
    return " ".join(html.unescape(shown).split())
