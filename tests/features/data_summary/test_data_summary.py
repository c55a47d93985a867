"""`data PATH` counts what was written, finds what was planted, and shows what cannot be decoded as such."""

import io
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from bench.__main__ import main
from bench.cli.options import find_experiment_with_settings
from bench.data.samples import open_samples
from bench.data.subset import subset_rows
from bench.features.data_summary.summary import MAX_CAPTION_ROWS, NUM_SHOWN
from bench.interfaces.data_source import SOURCES
from bench.labels.subwords import get_clip_tokenizer
from tests.data.listed import Listed, Lists
from tests.data.shards import encode_image, make_image, write_shard
from tests.reports.test_page import HOSTILE, Document

TEXTS = (
    "a dog and a cat",
    "ein Haus am See",
    "красная машина",
    "一只狗和一只猫",
    "犬と猫が庭にいる",
    "كلب وقطة",
    "12:30",
    "the of and",
)
EMPTY, BROKEN, NO_CAPTION = 2, 1, 2
TRUNCATED = encode_image(make_image(999, 90, 70), "PNG")[:400]


def planted() -> dict[str, tuple[bytes, str | None]]:
    """Images and captions by key: 64 with both, among them a truncated image and empty captions; 2 without."""
    found: dict[str, tuple[bytes, str | None]] = {}
    for number in range(NUM_SHOWN - EMPTY - BROKEN):
        kind = ("JPEG", "PNG", "WEBP")[number % 3]
        found[f"{number:03}"] = (
            encode_image(make_image(number, 20 + number, 90 - number), kind),
            f"{TEXTS[number % 8]} {number // 16}",
        )
    for number in range(EMPTY):
        found[f"empty{number}"] = encode_image(make_image(200 + number)), " "
    found["broken"] = TRUNCATED, f"a broken image {HOSTILE}"
    for number in range(NO_CAPTION):
        found[f"none{number}"] = encode_image(make_image(300 + number)), None
    return found


def members(samples: dict[str, tuple[bytes, str | None]]) -> dict[str, bytes]:
    suffixes = {b"\xff\xd8": "jpg", b"\x89P": "png", b"RI": "webp"}
    found = {}
    for key, (image, text) in samples.items():
        found[f"{key}.{suffixes[image[:2]]}"] = image
        if text is not None:
            found[f"{key}.txt"] = text.encode()
    return found


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shards")
    write_shard(folder / "00000.tar", members(planted()))
    return folder


def summarize(data: str | Path, folder: Path, *options: str) -> dict[str, Any]:
    """The tables of `data` by title, each as its rows and its note."""
    file = folder / "summary.json"
    words = ["data", str(data), "--index-folder", str(folder), "--json", str(file), *options]
    assert main(words) == 0
    found: dict[str, Any] = json.loads(file.read_text())
    return found


def rows(tables: dict[str, Any], title: str) -> dict[str, dict[str, Any]]:
    """The rows of a table by the first column."""
    found = tables[title]["rows"]
    return {str(next(iter(row.values()))): row for row in found}


@pytest.fixture(scope="module")
def tables(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return summarize(shards, tmp_path_factory.mktemp("results"))


def test_counts_are_those_of_a_slow_loop_over_what_was_written(tables: dict[str, Any]) -> None:
    both = {key: (image, text) for key, (image, text) in planted().items() if text is not None}
    (data,) = tables["Data"]["rows"]
    assert (data["samples"], data["left out"], data["files"]) == (len(both), NO_CAPTION, 1)
    assert data["images"] == sum(len(image) for image, _ in both.values())
    sides = sorted(
        min(Image.open(io.BytesIO(image)).size) for image, _ in both.values() if image != TRUNCATED
    )
    shorter = rows(tables, "Sizes of images")["shorter side, px"]
    assert (shorter["least"], shorter["median"], shorter["most"]) == (
        sides[0],
        sides[len(sides) // 2],
        sides[-1],
    )


def test_captions_are_counted_as_a_slow_loop_counts_them(tables: dict[str, Any]) -> None:
    texts = [text for _, text in planted().values() if text is not None]
    captions = [text for text in texts if text.strip()]
    (row,) = tables["Captions"]["rows"]
    assert row["without a caption"] == pytest.approx(EMPTY / len(texts))
    assert row["repeated"] == pytest.approx(1 - len(set(captions)) / len(captions))
    lengths = sorted(2 + len(get_clip_tokenizer().encode(text)) for text in captions)
    assert (row["tokens, least"], row["tokens, most"]) == (lengths[0], lengths[-1])
    assert row["over 77 tokens"] == pytest.approx(
        sum(length > 77 for length in lengths) / len(lengths)
    )
    english = [text for text in captions if re.match("a dog|a broken", text)]
    assert len(english) / len(captions) <= row["with a noun"] < 1


def test_what_a_training_cannot_use_is_listed_with_its_reason(tables: dict[str, Any]) -> None:
    found = rows(tables, "Samples that cannot be used")
    assert {reason: row["samples"] for reason, row in found.items()} == {
        "no caption": NO_CAPTION,
        "image: truncated": 1,
    }
    assert found["no caption"]["of"] == NUM_SHOWN + NO_CAPTION


def test_page_shows_64_images_and_a_broken_one_as_such(shards: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    summarize(shards, tmp_path, "--out", str(page))
    text = page.read_text(encoding="utf-8")
    document = Document(text)
    pictures = text.partition('<div class="pictures">')[2].partition("</section>")[0]
    assert pictures.count("<figure>") == NUM_SHOWN
    assert pictures.count("data:image/webp;base64,") == NUM_SHOWN - BROKEN
    assert pictures.count("cannot be decoded: truncated") == BROKEN
    assert "<script>alert" not in text
    assert all(
        value.startswith(("#", "data:"))
        for _, name, value in document.attributes
        if name in {"src", "href"}
    )
    words = document.words()
    for _, caption in planted().values():
        assert " ".join((caption or "").split()) in words
    assert document.tables.keys() >= {"Sizes of images", "Samples that cannot be used"}


THREE = [
    ("k0", encode_image(make_image(1)), "a red car"),
    ("k1", b"GIF89a...", ""),
    ("k2", b"", "ein rotes Auto"),
]


class MillionSamples(Listed):
    """A million samples, which count what is read of them."""

    read: Counter[str]

    def __len__(self) -> int:
        return 1_000_000

    def key(self, row: int) -> str:
        return str(row)

    def image(self, row: int) -> bytes:
        self.read["images"] += 1
        return super().image(row % 3)

    def caption(self, row: int) -> str:
        self.read["captions"] += 1
        return super().caption(row % 3)


def test_of_a_million_samples_only_random_ones_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SOURCES._objects, "lists", Lists(MillionSamples(THREE)))
    MillionSamples.read = Counter()
    found = summarize("a list", tmp_path, "--decoded-images", "100")
    assert MillionSamples.read == {"images": 100, "captions": MAX_CAPTION_ROWS + NUM_SHOWN}
    assert found["Sizes of images"]["note"].startswith(
        "Images of 100 of 1,000,000 samples, drawn at random"
    )
    assert found["Captions"]["note"].startswith(
        "Captions of 50,000 of 1,000,000 samples, drawn at random"
    )


def test_captions_of_many_characters_are_counted_in_fewer_samples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.features.data_summary.summary.MAX_CAPTION_CHARACTERS", 1000)
    monkeypatch.setattr("bench.data.sample_index.MAX_BATCH_BYTES", 1000)
    samples = {f"{n:02}": (encode_image(make_image(n)), "a dog " * 50) for n in range(20)}
    tables = summarize(write_shard(tmp_path / "s.tar", members(samples)), tmp_path)
    assert tables["Captions"]["note"].startswith("Captions of 4 of 20 samples, drawn at random")


def test_each_field_of_captions_is_counted(tmp_path: Path) -> None:
    found = {}
    for number in range(12):
        found[f"{number:02}.jpg"] = encode_image(make_image(number))
        found[f"{number:02}.json"] = json.dumps(
            {"llava": ["собака", "a long red car"][: number % 3]}
        ).encode()
        found[f"{number:02}.txt"] = b"a dog"
    write_shard(tmp_path / "s.tar", found)
    page = tmp_path / "page.html"
    tables = summarize(
        tmp_path / "s.tar", tmp_path, "--caption-fields", "txt;json.llava", "--out", str(page)
    )
    short, long = (rows(tables, "Captions")[field] for field in ("txt", "json.llava"))
    assert (short["captions per sample"], long["captions per sample"]) == (1, 1)
    assert (short["without a caption"], long["without a caption"]) == (0, pytest.approx(1 / 3))
    assert (short["repeated"], long["repeated"]) == (pytest.approx(11 / 12), pytest.approx(10 / 12))
    pictures = page.read_text(encoding="utf-8").partition('<div class="pictures">')[2]
    assert (pictures.count(">a dog<"), pictures.count(">a long red car<")) == (12, 4)


def test_refused_data_are_summarised_and_can_be_trained_on_by_the_usable_keys(
    tmp_path: Path,
) -> None:
    samples = {
        f"{number:02}": (encode_image(make_image(number)), "a cat" if number % 2 else None)
        for number in range(40)
    }
    samples["01"] = (b"\xff\xd8 no image", "a cat")
    data = str(write_shard(tmp_path / "s.tar", members(samples)))
    keys = tmp_path / "keys.csv"
    note = summarize(data, tmp_path, "--usable-subset-out", str(keys))["Data"]["note"]
    assert "20 of 40 samples are skipped" in note
    with pytest.raises(ValueError, match="20 of 40 samples cannot be used"):
        open_samples(find_experiment_with_settings("catlip-tiny", [f"data={data}"]), tmp_path)
    experiment = find_experiment_with_settings("catlip-tiny", [f"subset={keys}", f"data={data}"])
    opened = open_samples(experiment, tmp_path)
    usable = {opened.key(row) for row in subset_rows(experiment.input.subset, 0, opened.keys)}
    assert usable == {key for key, (_, text) in samples.items() if text is not None} - {"01"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["nowhere"], "data=nowhere holds no file; no data source reads it"),
        (["SHARDS", "--decoded-images", "0"], "--decoded-images must be from 1 to 1e+06, got 0"),
        (["SHARDS", "--out", "EMPTY"], "EMPTY"),
    ],
)
def test_wrong_input_is_refused_in_at_most_three_lines(
    options: list[str],
    message: str,
    shards: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "EMPTY").mkdir()
    words = [str(shards) if word == "SHARDS" else word for word in options]
    assert main(["data", *words, "--index-folder", "r"]) == 2
    line, *others = capsys.readouterr().err.splitlines()
    assert message in line
    assert [other.split(":")[0] for other in others] in ([], ["missing", "next"])
