"""A table whose column of keys is empty in a row: the sample's key is its image's name, so that keys stay distinct."""

from pathlib import Path

from PIL import Image

from bench.data.samples import open_samples
from tests.small import small


def test_images_that_are_added_beside_those_of_a_table_are_found(
    tmp_path: Path, results: Path
) -> None:
    (tmp_path / "deep").mkdir()
    rows = [
        f'{{"image": "deep/{name}.png", "caption": "a dog"}}' for name in "abcdefghijklmnopqrst"
    ]
    (tmp_path / "table.jsonl").write_text("\n".join(rows), encoding="utf-8")
    numbers = []
    for names in ("abcdefghijklmnopqrs", "t"):
        for name in names:
            Image.new("RGB", (8, 8)).save(tmp_path / "deep" / f"{name}.png")
        experiment = small(
            "clip", data=str(tmp_path / "table.jsonl"), batch_size=2, images_seen=4, warmup_images=0
        )
        numbers.append(len(open_samples(experiment, results / "cache")))
    assert numbers == [19, 20]


def test_null_keys_are_the_names_of_the_images(tmp_path: Path, results: Path) -> None:
    rows = ['{"key": 0, "image": "a.png", "caption": "a cat"}']
    rows += [f'{{"key": null, "image": "{name}.png", "caption": "a dog"}}' for name in ("b", "c")]
    for name in ("a", "b", "c"):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{name}.png")
    (tmp_path / "table.jsonl").write_text("\n".join(rows), encoding="utf-8")
    experiment = small(
        "clip", data=str(tmp_path / "table.jsonl"), batch_size=2, images_seen=4, warmup_images=0
    )
    samples = open_samples(experiment, results / "cache")
    assert [samples.key(row) for row in range(len(samples))] == ["0", "b.png", "c.png"]
