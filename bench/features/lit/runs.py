"""The run of one tower: its second phase, if it has no text tower of its own, and its zero-shot scores."""

from pathlib import Path

import torch

from bench.console.console import StopRequest
from bench.data.manifest import user_cache_folder
from bench.data.pack import load_pack_images
from bench.environment.circumstances import RunCircumstances, count_devices
from bench.experiment.config import Experiment
from bench.features.lit.costs import find_pretraining_seconds
from bench.features.lit.records import SecondPhase, ZeroShot
from bench.features.lit.stored_features import digest_json, load_or_compute_features
from bench.features.lit.text_phase import TEXT_TOWER, TextPhase
from bench.features.lit.zero_shot import make_prompts, score_classification, score_retrieval_at_1
from bench.towers.head_file import read_text_encoder
from bench.towers.provenance import TowerProvenance
from bench.towers.tower_from import load_tower
from bench.train.build import open_batch_stream
from bench.transfer.feature_extractor import make_tower_embedder
from bench.transfer.named_tasks import load_task
from bench.transfer.tasks.image_sources import composite_on_white

CAPTIONED = "twemoji"  # part of the pack that no training reads


def score_zero_shot(
    experiment: Experiment,
    device: torch.device,
    results: Path,
    circumstances: RunCircumstances,
    comparison: str,
    stop: StopRequest | None,
    tower: str,
    templates: tuple[str, ...],
    tasks: tuple[str, ...],
    root: str,
    retrieves_captions: bool,
    total_seconds: float | None,
    price: float | None,
) -> ZeroShot:
    """Score a tower by the text tower that was trained with it, else by one that learns on the experiment's data.

    A text tower that learns is kept in `results`, in a folder that names what it depends on, and found there again.
    """
    loaded = load_tower(tower)
    loaded_tasks = [load_task(name, results, root) for name in tasks]
    prompts = [make_prompts(task, templates) for task in loaded_tasks]
    pretraining_seconds = find_pretraining_seconds(Path(tower), circumstances)
    phase: SecondPhase | None = None
    skipped: dict[str, int] = {}
    texts = loaded.read_text_encoder()
    if texts is None:
        stream = open_batch_stream(experiment, device, results)
        features = load_or_compute_features(loaded, stream, results, circumstances)
        seconds = None
        if total_seconds is not None:
            seconds = total_seconds - (pretraining_seconds or 0.0) - features.cost.seconds
        text_phase = TextPhase(
            experiment=experiment,
            device=device,
            results=results,
            comparison=comparison,
            folder=results / f"text-{digest_json((features.digest, experiment, total_seconds))}",
            features=features,
            num_devices=count_devices(circumstances),
            seconds=seconds,
        )
        phase = text_phase.load_or_train(stop or StopRequest())
        skipped = features.cost.unusable
        trained = TowerProvenance(experiment=experiment, images=phase.images, budgets=())
        texts = read_text_encoder(loaded.tower, text_phase.folder / TEXT_TOWER, trained)
        assert texts is not None
    texts.pair.to(device)
    embed = make_tower_embedder(loaded.tower, device)
    scores = [
        score_classification(texts, embed, task, prompts_of_task)
        for task, prompts_of_task in zip(loaded_tasks, prompts, strict=True)
    ]
    if retrieves_captions:
        drawings = load_pack_images(CAPTIONED, user_cache_folder())
        images = composite_on_white(drawings.premultiplied_rgba)
        scores += score_retrieval_at_1(texts, embed, images, drawings.captions)
    return ZeroShot(
        skipped=skipped,
        tower=loaded.name,
        pretraining_images=loaded.provenance.images if loaded.provenance else None,
        pretraining_seconds=pretraining_seconds,
        second_phase=phase,
        total_seconds=total_seconds if phase else None,
        price=price,
        scores=tuple(scores),
    )
