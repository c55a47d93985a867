"""Users' layouts of captioned images load with equal pixels and captions, or the refusal says what converts them."""

import json
import shlex
import subprocess
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bench.console.console import PROGRAM, UserError
from bench.data.samples import data_digest, open_samples
from bench.data.sources import arrow_tables
from bench.experiment.config import Experiment, change
from bench.interfaces.data_source import Samples
from tests.data.layouts import (
    HF_IMAGE,
    LAYOUTS,
    REFUSED,
    SOURCE_LAYOUTS,
    photographs,
    write_images,
    write_pairs,
    write_parquet,
    write_saved_dataset,
    write_table,
)
from tests.data.shards import write_shard
from tests.processes import answer
from tests.small import small

PHOTOS = photographs(12)


def opened(data: Path | str, cache: Path, **changes: object) -> Samples:
    return open_samples(change(small("clip"), data=str(data), **changes), cache)


def contents(samples: Samples) -> list[tuple[str, bytes]]:
    return [(samples.caption(row), samples.image(row)) for row in range(len(samples))]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layout_has_the_images_and_captions_that_were_written(layout: str, tmp_path: Path) -> None:
    data = LAYOUTS[layout](tmp_path / "data", PHOTOS)
    samples = opened(data, tmp_path / "cache")
    assert contents(samples) == [(one.caption, one.image) for one in PHOTOS]
    assert len({*samples.keys}) == samples.total_with_unusable == len(PHOTOS)
    assert not samples.skipped
    assert "12 samples" in samples.notes()[0]


@pytest.mark.parametrize("layout", REFUSED)
def test_refused_layout_is_read_after_the_command_that_the_refusal_names(
    layout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, name, missing, after = REFUSED[layout]
    write(tmp_path, PHOTOS)
    data = name if ":" in name else str(tmp_path / name)
    with pytest.raises(UserError) as error:
        opened(data, tmp_path / "cache")
    first, second, third = str(error.value).splitlines()
    assert data in first
    assert second.startswith(f"missing: {missing}")
    assert third.startswith("next: ")
    assert third.endswith("# docs/data.md")
    if after is None:
        return
    command = third.removeprefix("next: ").replace("IMAGES", str(tmp_path / "elsewhere" / "pets"))
    shell, _, program = command.partition(f"{PROGRAM} ")
    monkeypatch.chdir(tmp_path)
    subprocess.run(shell.removesuffix("&& ") or "true", shell=True, check=True)
    if "--extension" in program:
        code, text = answer(tmp_path, *shlex.split(program, comments=True))
        assert (code, "12" in text) == (0, True)
    else:
        assert f"data {tmp_path / after} " in f"{program or f'data {tmp_path / after} '}"
        samples = opened(tmp_path / after, tmp_path / "cache")
        captions = {samples.caption(row).strip() for row in range(len(samples))}
        expected = {one.caption for one in PHOTOS[: len(samples)]}
        assert captions == ({"YOUR CAPTION"} if layout == "images alone" else expected)


def test_files_that_a_saved_dataset_does_not_list_are_not_read(tmp_path: Path) -> None:
    saved = write_saved_dataset(tmp_path / "pets", PHOTOS)
    listed = next(saved.glob("*.arrow"))
    (saved / "cache-1234.arrow").write_bytes(listed.read_bytes())  # as `Dataset.map` leaves it
    assert len(opened(saved, tmp_path / "cache")) == len(PHOTOS)


def test_table_is_found_beside_a_text_for_each_image(tmp_path: Path) -> None:
    rows = []
    for number, photo in enumerate(PHOTOS):
        (tmp_path / f"{number}.jpg").write_bytes(photo.image)
        rows.append({"image": f"{number}.jpg", "caption": photo.caption})
        for part in "ab":
            (tmp_path / f"box-{number}{part}.txt").write_text("0 0.5 0.5 0.1 0.1")
    (tmp_path / "train.json").write_text(json.dumps(rows))
    assert len(opened(tmp_path, tmp_path / "cache")) == len(PHOTOS)


def test_captions_that_are_not_utf8_have_replacement_characters(tmp_path: Path) -> None:
    (tmp_path / "0.jpg").write_bytes(PHOTOS[0].image)
    (tmp_path / "0.txt").write_bytes("ein M\xe4dchen".encode("latin-1"))
    assert opened(tmp_path, tmp_path / "cache").caption(0) == "ein M\ufffddchen"


@pytest.mark.parametrize("source", SOURCE_LAYOUTS)
def test_changed_data_has_another_digest_and_another_index(source: str, tmp_path: Path) -> None:
    first = SOURCE_LAYOUTS[source](tmp_path / "data", PHOTOS)
    digest = data_digest(str(first))
    assert contents(opened(first, tmp_path / "cache"))[0] == (PHOTOS[0].caption, PHOTOS[0].image)
    first.rename(tmp_path / "before")
    SOURCE_LAYOUTS[source](tmp_path / "data", PHOTOS[::-1])
    assert data_digest(str(first)) != digest
    assert contents(opened(first, tmp_path / "cache"))[0] == (PHOTOS[-1].caption, PHOTOS[-1].image)


def test_sources_skip_what_lacks_an_image_or_a_caption_and_count_it(tmp_path: Path) -> None:
    """Of twelve samples one has no image, one no caption, one a caption that is too long, one an empty caption."""
    images = [one.image for one in PHOTOS]
    captions: list[str | None] = [one.caption for one in PHOTOS]
    captions[3:6] = None, "x" * (4 * 2**20 + 1), ""
    columns = {
        "image": pa.array(
            [{"bytes": None, "path": None}, *({"bytes": one, "path": None} for one in images[1:])],
            HF_IMAGE,
        )
    }
    pq.write_table(pa.table(columns | {"caption": captions}), tmp_path / "a.parquet")
    samples = opened(tmp_path / "a.parquet", tmp_path / "cache")
    assert samples.skipped == {"no image": 1, "no caption": 2}
    assert (len(samples), samples.total_with_unusable) == (9, 12)
    assert contents(samples)[:3] == [
        (PHOTOS[1].caption, images[1]),
        (PHOTOS[2].caption, images[2]),
        ("", images[5]),
    ]

    folder = write_pairs(tmp_path / "pairs", PHOTOS)
    (folder / "0000.jpg").unlink()
    (folder / "0003.txt").unlink()
    (folder / "0004.txt").write_text("x" * (4 * 2**20 + 1))
    (folder / "0005.txt").write_text("")
    samples = opened(folder, tmp_path / "cache")
    assert samples.skipped == {"no caption": 2}
    assert (len(samples), samples.total_with_unusable) == (9, 11)
    assert samples.image(2) == images[5]


def test_fields_that_are_read_and_those_that_are_not_are_named(tmp_path: Path) -> None:
    fields = {"uid": "u", "alt_text": "a dog", "recaption": "a dog on a beach", "width": 3}
    texts = {"sample_id": "s", "text": ["a dog"], "recaption": "a dog on a beach", "width": 3}
    images = [
        {**texts, "sample_id": str(n), "image": {"bytes": one.image}}
        for n, one in enumerate(PHOTOS)
    ]
    members = {"a.jpg": PHOTOS[0].image, "a.json": json.dumps(fields).encode()}
    write_shard(tmp_path / "json.tar", members)
    write_shard(tmp_path / "both.tar", members | {"a.txt": b"a dog"})
    pq.write_table(pa.Table.from_pylist(images), tmp_path / "rows.parquet")
    table = (
        write_table(tmp_path / "table", PHOTOS, "t.jsonl", columns="file_name,title") / "t.jsonl"
    )
    table.write_text(
        "".join(
            json.dumps({**json.loads(line), "recaption": "a"}) + "\n"
            for line in table.read_text().splitlines()
        )
    )
    both = "json.alt_text, json.recaption"
    for name, caption, read, others in (
        ("json.tar", None, "json.alt_text", "json.recaption"),
        ("json.tar", "recaption", "recaption", "json.alt_text"),
        ("both.tar", None, "txt", both),
        ("rows.parquet", None, "text", "recaption"),
        ("table/t.jsonl", None, "title", "recaption"),
    ):
        samples = opened(tmp_path / name, tmp_path / "cache", caption_fields=caption)
        expected = (
            f"captions are read from {read}; not read: {others} (others with --caption-fields)"
        )
        assert samples.notes()[1] == expected


def test_image_that_is_not_there_or_is_outside_the_folder_is_counted(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    names = write_images(folder / "images", PHOTOS)
    (tmp_path / "secret.jpg").write_bytes(PHOTOS[0].image)
    (folder / "images" / "folder.jpg").mkdir()
    rows = [*names, "lost.jpg", "../../secret.jpg", "folder.jpg", str(tmp_path / "secret.jpg")]
    (folder / "t.csv").write_text(
        "image,caption\n" + "".join(f"{name},a dog\n" for name in rows) + "a,b,c\n,a cat\n"
    )
    samples = opened(folder, tmp_path / "cache")
    assert samples.skipped == {"no image": 5}
    assert samples.image(len(samples) - 1) == PHOTOS[0].image  # an absolute path is a user's own


def test_one_of_several_splits_or_tables_has_to_be_named(tmp_path: Path) -> None:
    hub = write_parquet(tmp_path / "hub", PHOTOS)
    (hub / "train-00000-of-00002.parquet").rename(hub / "test-00000-of-00001.parquet")
    with pytest.raises(
        ValueError, match=r"has several splits: name the files of one, as '.*/test-\*\.parquet'"
    ):
        opened(hub, tmp_path / "cache")
    assert len(opened(hub / "train-*.parquet", tmp_path / "cache")) == 6
    tables = write_table(tmp_path / "tables", PHOTOS, "a.csv")
    (tables / "b.csv").write_text((tables / "a.csv").read_text())
    with pytest.raises(
        ValueError, match=r"has 2 tables of images \(.*a\.csv, .*b\.csv\): name one"
    ):
        opened(tables, tmp_path / "cache")


def write_two_images(kind: str, folder: Path) -> None:
    """Write samples with two images each, of which those named photo are the photographs."""
    images = {"image": [PHOTOS[0].image] * 12, "photo": [one.image for one in PHOTOS]}
    captions = [one.caption for one in PHOTOS]
    if kind == "Parquet":
        pq.write_table(pa.table({**images, "caption": captions}), folder / "a.parquet")
        return
    members = {}
    rows = ["image,photo,caption"]
    for row, caption in enumerate(captions):
        for name, values in images.items():
            members[f"{row:02}.{name}.jpg"] = values[row]
        members[f"{row:02}.txt"] = caption.encode()
        rows.append(f'{row:02}.image.jpg,{row:02}.photo.jpg,"{caption}"')
    if kind == "tar":
        write_shard(folder / "0.tar", members)
        return
    for name, content in members.items():
        (folder / name).write_bytes(content)
    (folder / "a.csv").write_text("\n".join(rows))


@pytest.mark.parametrize(
    ("kind", "column"), [("Parquet", "photo"), ("csv", "photo"), ("tar", "photo.jpg")]
)
def test_images_are_those_of_the_named_column(kind: str, column: str, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    write_two_images(kind, folder)
    experiment = change(small("clip"), data=str(folder), image_column=column)
    record = msgspec.json.decode(msgspec.json.encode(experiment), type=Experiment)
    samples = open_samples(record, tmp_path / "cache")
    assert contents(samples) == [(one.caption, one.image) for one in PHOTOS]
    assert {image for _, image in contents(opened(folder, tmp_path / "cache"))} == {PHOTOS[0].image}
    if kind != "tar":
        with pytest.raises(ValueError, match=r"named 'foto'.*; did you mean 'photo'"):
            opened(folder, tmp_path / "cache", image_column="foto")


def test_captions_are_found_in_a_column_or_its_columns_are_listed(tmp_path: Path) -> None:
    images = pa.array([{"bytes": one.image, "path": None} for one in PHOTOS], HF_IMAGE)
    recaptions = [{"llava": f"a scene, {one.caption}"} for one in PHOTOS]
    pq.write_table(
        pa.table(
            {"jpg": images, "beschreibung": ["a"] * 12, "ort": ["b"] * 12, "json": recaptions}
        ),
        tmp_path / "a.parquet",
    )
    with pytest.raises(
        ValueError, match=r"\(there are beschreibung, ort\): name it with --caption-fields"
    ):
        opened(tmp_path / "a.parquet", tmp_path / "cache")
    samples = opened(
        tmp_path / "a.parquet", tmp_path / "cache", caption_fields="beschreibung:0.5;json.llava:0.5"
    )
    assert samples.captions_by_field(3) == (("a",), (f"a scene, {PHOTOS[3].caption}",))


def test_parquet_file_is_converted_once_for_all_captions(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_parquet(tmp_path / "data", PHOTOS)
    for caption in (None, "caption"):
        assert contents(opened(data, tmp_path / "cache", caption_fields=caption))[0] == (
            PHOTOS[0].caption,
            PHOTOS[0].image,
        )
    assert len([*(tmp_path / "cache").glob("*.parquet-*.arrow")]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "converting" in line]
    assert "converting 2 Parquet files of images to Arrow, once: 0.0 GiB in" in line
    assert "GiB are free" in line


def test_parquet_file_is_not_converted_where_the_disk_has_too_little_space(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrow_tables.shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(
        ValueError, match=r"are converted once, which takes .* where 0\.0 GiB are free"
    ):
        opened(write_parquet(tmp_path / "data", PHOTOS), tmp_path / "cache")
    assert not [*(tmp_path / "cache").glob("*.arrow")]
