"""One text of a sample is drawn for each epoch: batch k stays a pure function of the experiment, the rank and k."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.__main__ import main
from bench.data.captions.choice import parse_caption_choice
from bench.data.sample_stream import SampleStream
from bench.data.samples import open_samples
from bench.data.targets import CaptionsWithRows, NoTextMixin
from bench.experiment.config import Experiment
from bench.labels.vocabulary import read_vocabulary
from bench.train.build import open_batch_stream
from tests.data.captions.test_choice import drawn_slowly
from tests.data.shards import encode_image, make_image, write_shard
from tests.data.test_stream import CPU
from tests.small import small

COUNT = 24
MIXED = "txt:0.4;json.llava:0.6"


@dataclass(frozen=True)
class TextTarget(NoTextMixin):
    """Captions as they are."""

    texts: list[str]

    def select(self, rows: torch.Tensor) -> "TextTarget":
        return TextTarget([self.texts[row] for row in rows.tolist()])

    def to(self, _: torch.device) -> "TextTarget":
        return self


def as_text(_: Experiment) -> Callable[[CaptionsWithRows], Any]:
    return lambda captions: TextTarget([*captions.texts])


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of shards: three texts of each sample, of every third only its `.txt`, and one image that is broken."""
    folder, image = tmp_path_factory.mktemp("data"), encode_image(make_image(0))
    for shard in (0, 1):
        members = dict[str, bytes]()
        for key in (f"{shard}-{number:02}" for number in range(COUNT // 2)):
            llava = [f"llava {key}", f"more llava {key}"] if int(key[-2:]) % 3 else None
            members[f"{key}.jpg"] = image if key != "1-05" else b"broken"
            members[f"{key}.txt"] = f"txt {key}".encode()
            members[f"{key}.json"] = json.dumps(
                {"llava": llava, "url": "two cats" if key == "0-01" else "a bird"}
            ).encode()
        write_shard(folder / f"{shard}.tar", members)
    return folder


def stream(data: Path, results: Path, caption: str | None, **changes: Any) -> SampleStream:
    options = {name: changes.pop(name) for name in ("rank", "ranks") if name in changes}
    num_workers = changes.pop("workers", 0)
    experiment = small(
        "catlip", data=str(data), caption_fields=caption, **{"batch_size": 8} | changes
    )
    samples = open_samples(experiment, results / "cache")
    return SampleStream(experiment, samples, as_text, CPU, num_workers=num_workers, **options)


def texts_of(shown: SampleStream, batches: Sequence[int]) -> list[list[str]]:
    return [shown.batch(k).target.texts for k in batches]


def test_batches_equal_those_of_a_slow_loop_over_samples_and_epochs(
    data: Path, results: Path
) -> None:
    shown, choice = stream(data, results, MIXED, batch_size=7, seed=3), parse_caption_choice(MIXED)
    samples = open_samples(shown.experiment, results / "cache")
    row_of = {samples.key(row): row for row in range(len(samples))}
    place = 0
    for k in range(3 * COUNT // 7):
        for text in shown.batch(k).target.texts:
            row = row_of[text.split()[-1]]
            assert text == drawn_slowly(
                choice, samples.captions_by_field(row), 3, row, place // COUNT
            )
            place += 1
    assert shown.stats.unusable  # the broken image


def test_batches_are_equal_with_workers_and_from_any_step(data: Path, results: Path) -> None:
    whole = texts_of(stream(data, results, MIXED), range(8))
    assert texts_of(stream(data, results, MIXED, workers=2), [5, 6, 2, 3]) == [
        whole[k] for k in (5, 6, 2, 3)
    ]
    assert texts_of(stream(data, results, MIXED), [7, 0]) == [whole[7], whole[0]]


def test_subset_draws_the_captions_of_the_whole(data: Path, results: Path, tmp_path: Path) -> None:
    keys = [f"0-{number:02}" for number in range(0, 12, 2)]
    (tmp_path / "keys.csv").write_text("\n".join(["key", *keys]))
    whole, part = (
        stream(data, results, MIXED, batch_size=COUNT),
        stream(data, results, MIXED, batch_size=len(keys), subset=str(tmp_path / "keys.csv")),
    )
    texts = dict(zip(whole.keys(0), whole.batch(0).target.texts, strict=True))
    assert {*part.batch(0).target.texts} == {texts[key] for key in keys}


def test_rows_of_packed_captions_are_reserved_for_the_longest_texts(
    tmp_path: Path, results: Path
) -> None:
    members, image = dict[str, bytes](), encode_image(make_image(0))
    for key in range(64):
        llava = json.dumps({"llava": ["dog", "a dog " * (8 + key % 9)]})
        members |= {
            f"{key:02}.jpg": image,
            f"{key:02}.txt": b"dog",
            f"{key:02}.json": llava.encode(),
        }
    path = write_shard(tmp_path / "0.tar", members)
    changes = {
        "data": str(path),
        "text_padding": "packed_rows",
        "context_length": 77,
        "workers": 0,
        "subset": None,
    }
    longest = write_shard(
        tmp_path / "1.tar",
        {
            name: content
            if name.endswith("jpg")
            else json.loads(members[f"{name[:2]}.json"])["llava"][1].encode()
            for name, content in members.items()
            if not name.endswith("json")
        },
    )
    drawn, alone = (
        open_batch_stream(
            small("clip", **changes | {"data": str(one), "caption_fields": caption}), CPU, results
        )
        for one, caption in ((path, "txt:0.9;json.llava:0.1"), (longest, None))
    )
    shapes = {drawn.target(k).groups[0].shape for k in range(20)}
    assert shapes == {alone.target(k).groups[0].shape for k in range(20)}
    assert len(shapes) == 1


def test_vocabulary_counts_the_texts_of_all_fields_and_lists(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    llava = json.dumps({"llava": ["cats", "a bird"]}).encode()
    members = {
        f"{n}.{s}": c
        for n in range(5)
        for s, c in (("jpg", b"1"), ("txt", b"a dog"), ("json", llava))
    }
    path = write_shard(tmp_path / "0.tar", members)
    options = ["label", str(path), "--out", str(tmp_path / "v.json")]
    assert main([*options, "--caption-fields", "txt:1;json.llava:0"]) == 0
    found = read_vocabulary(str(tmp_path / "v.json"))
    assert {label.name: label.count for label in found.labels} == {
        "dog.n.01": 5,
        "cat.n.01": 5,
        "bird.n.01": 5,
    }
    assert found.captions == 15
    assert main([*options, "--caption-fields", "txt:1;json.lava:0"]) == 2
    assert "no sample has a caption in 'json.lava' (there are " in capsys.readouterr().err
