"""The run of one tower: its second phase, if it has no text tower of its own, and its zero-shot scores."""

import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch

from bench.data.manifest import user_cache_folder
from bench.data.pack import load_pack_images
from bench.environment.circumstances import RunCircumstances
from bench.experiment.config import Experiment
from bench.features.lit.costs import count_devices, find_pretraining_seconds
from bench.features.lit.records import SecondPhase, ZeroShot
from bench.features.lit.stored_features import load_or_compute_features
from bench.features.lit.text_phase import build_run_on_features, train_on_features
from bench.features.lit.zero_shot import make_prompts, score_classification, score_retrieval
from bench.labels.subwords import SubwordEncoder
from bench.profilers.clock import time_synchronized_block
from bench.towers.head_file import TextEncoder
from bench.towers.tower_from import load_tower
from bench.train.build import open_batch_stream
from bench.transfer.feature_extractor import make_tower_embedder
from bench.transfer.named_tasks import load_task
from bench.transfer.tasks.image_sources import composite_on_white

if TYPE_CHECKING:
    from models.heads import DualEncoder

CAPTIONED = "twemoji"  # part of the pack that no training reads


def score_zero_shot(
    experiment: Experiment,
    device: torch.device,
    results: Path,
    circumstances: RunCircumstances,
    tower: Path,
    templates: tuple[str, ...],
    tasks: tuple[str, ...],
    root: str,
    retrieves_captions: bool,
) -> ZeroShot:
    """Score a tower by the text tower that was trained with it, else by one that learns on the experiment's data."""
    loaded = load_tower(str(tower))
    assert loaded.provenance is not None
    loaded_tasks = [load_task(name, results, root) for name in tasks]
    prompts = [make_prompts(task, templates) for task in loaded_tasks]
    phase: SecondPhase | None = None
    texts = loaded.read_text_encoder()
    if texts is None:
        features = load_or_compute_features(loaded, experiment, device, results, circumstances)
        stream = open_batch_stream(experiment, device, results)
        run = build_run_on_features(stream, loaded.tower.width)
        with time_synchronized_block(device) as elapsed:
            losses = train_on_features(run, features.values)
        phase = SecondPhase(
            loss=experiment.method,
            images=len(losses) * experiment.training.batch_size,
            stored_features=len(features.values),
            feature_seconds=features.seconds,
            text_seconds=elapsed.seconds * count_devices(circumstances),
            last_loss=losses[-1],
        )
        pair = cast("DualEncoder", run.model.eval())
        subwords = SubwordEncoder(experiment.targets.subword_vocabulary)
        texts = TextEncoder(pair, subwords, experiment.text.context_length)
    texts.pair.to(device)
    embed = make_tower_embedder(loaded.tower, device)
    # Prompts have other shapes than the captions for which a text tower may be compiled.
    is_compiled = "torch._dynamo" in sys.modules
    with torch.compiler.set_stance("force_eager") if is_compiled else nullcontext():
        scores = [
            score_classification(texts, embed, task, prompts_of_task)
            for task, prompts_of_task in zip(loaded_tasks, prompts, strict=True)
        ]
        if retrieves_captions:
            drawings = load_pack_images(CAPTIONED, user_cache_folder())
            images = composite_on_white(drawings.pixels)
            scores += score_retrieval(texts, embed, images, drawings.captions)
    return ZeroShot(
        tower=tower.name,
        method=loaded.provenance.experiment.method,
        pretraining_images=loaded.provenance.images,
        pretraining_seconds=find_pretraining_seconds(tower, circumstances),
        second_phase=phase,
        scores=tuple(scores),
    )
