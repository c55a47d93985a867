"""Test images that are in the training data are counted by their bytes, and the tables say how many there are."""

from pathlib import Path

import pytest
from msgspec import UNSET
from msgspec.structs import replace

from bench.experiment.config import change
from bench.experiment.experiments import EXPERIMENTS
from bench.transfer.leaked_test_images import count_leaked_test_images
from bench.transfer.tasks.image_sources import EncodedImageSource
from bench.transfer.terminal_tables import make_transfer_tables
from tests.data.shards import encode_image, make_image, write_shard
from tests.transfer.test_score_tables import CLIP, score, scored


@pytest.mark.parametrize("is_tar", [False, True])
def test_test_images_with_the_bytes_of_a_training_image_are_counted(
    is_tar: bool, tmp_path: Path
) -> None:
    members = {}
    for number in range(6):
        members[f"{number}.jpg"] = encode_image(make_image(number))
        members[f"{number}.txt"] = b"a dog"
    data = tmp_path / "mine"
    if is_tar:
        write_shard(data / "0.tar", members)
    else:
        data.mkdir()
        for name, content in members.items():
            (data / name).write_bytes(content)
    files = []
    for number in range(4, 9):  # two of them are in the data
        files.append(tmp_path / f"test-{number}.jpg")
        files[-1].write_bytes(encode_image(make_image(number)))
    experiment = change(EXPERIMENTS["clip-tiny"], data=str(data), pack_caption_lengths="own")
    assert count_leaked_test_images(EncodedImageSource(files), experiment, tmp_path / "cache") == 2
    assert (
        count_leaked_test_images(EncodedImageSource(files), EXPERIMENTS["clip-tiny"], tmp_path)
        is UNSET
    )


def test_tables_say_how_many_test_images_were_seen_in_training() -> None:
    record = scored(CLIP.name, 0, score(60))
    seen = replace(record, measured=replace(record.measured, seen_images=3))
    first, *_ = make_transfer_tables([seen])
    assert "Test images that are in the training data, byte for byte: 3 of rooms." in first.note
    first, *_ = make_transfer_tables([record])
    assert "byte for byte" not in first.note
