"""The emoji tasks find known concepts in another style."""

from pathlib import Path

from bench.data.pack import PackImages, load_pack_images


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
