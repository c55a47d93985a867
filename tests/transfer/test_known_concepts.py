"""The emoji tasks find known concepts in another style, and docs/results/transfer.md says how alike the styles are."""

from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from bench.data.pack import PackImages, load_pack_images
from bench.environment.circumstances import CHECKOUT
from bench.interfaces.catalog import RETRIEVAL_TASK
from bench.transfer.tasks.image_sources import ImageSource, eval_batches
from bench.transfer.tasks.tasks import pack_task

SIDE = 32  # pixels, as the baseline of raw pixels has them
PAGE = " ".join((CHECKOUT / "docs" / "results" / "transfer.md").read_text(encoding="utf-8").split())


def captions_by_concept(images: PackImages) -> dict[str, list[str]]:
    captions: dict[str, list[str]] = {}
    for caption, classes in zip(images.captions, images.classes, strict=True):
        if "concept" in classes:
            captions.setdefault(classes["concept"], []).append(caption)
    return captions


def test_every_emoji_of_a_task_is_pre_trained_from_other_vendors_under_its_own_name(
    results: Path,
) -> None:
    pretrain, twemoji = (
        load_pack_images(part, results / "cache") for part in ("pretrain", "twemoji")
    )
    assert not any(key.startswith("twemoji-") for key in pretrain.keys)
    trained = captions_by_concept(pretrain)
    for concept in captions_by_concept(twemoji):
        assert any(concept.lower() in caption.lower() for caption in trained[concept])
    assert f"each of the {len(twemoji):,} emoji" in PAGE


def correlations(one: ImageSource, other: ImageSource) -> Float[Tensor, "one other"]:
    rows = []
    for images in (one, other):
        pixels = torch.cat([batch.double().flatten(1) for batch in eval_batches(images, SIDE)])
        centred = pixels - pixels.mean(1, keepdim=True)
        rows.append(centred / centred.norm(dim=1, keepdim=True))
    return rows[0] @ rows[1].T


def test_page_has_the_retrieval_by_correlated_pixels_and_the_share_of_alike_pairs(
    results: Path,
) -> None:
    task = pack_task(RETRIEVAL_TASK, results / "cache")
    found, answers = (
        correlations(task.test.images, task.train.images),
        torch.from_numpy(task.test.labels),
    )
    retrieved = (found.argmax(1) == answers).double().mean()
    alike = (found[torch.arange(len(answers)), answers] > 0.9).double().mean()
    assert (
        f"retrieves {retrieved:.3f} of the test queries, and {100 * alike:.0f} % of the pairs"
        in PAGE
    )
