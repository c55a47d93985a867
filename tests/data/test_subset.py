"""A run sees the samples that a file lists, or as many at random."""

from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.data.held_out import exclusion_reason_by_key
from bench.data.pack import PackImages
from bench.data.stream import PackStream
from bench.data.subset import subset_rows
from bench.experiment.experiments import DEFAULT_METHODS
from bench.experiment.fields import WITHOUT_HELD_OUT_CONCEPTS
from bench.interfaces.method import METHODS
from bench.train.build import open_batch_stream
from tests.data.shards import write_shards
from tests.data.test_stream import CPU
from tests.small import small

KEYS = pa.chunked_array(
    [pa.array(["a", "b"], pa.large_string()), pa.array(["c", "b", "d"], pa.large_string())]
)


def rows_of(subset: str | None, seed: int = 0) -> list[int]:
    experiment = small("clip", subset=subset, seed=seed)
    return [*subset_rows(experiment.input.subset, experiment.seed, KEYS)]


@pytest.mark.parametrize("column", ["key", "__key__", "uid", "UID"])
def test_subset_file_selects_the_listed_keys(column: str, tmp_path: Path) -> None:
    (tmp_path / "ids.csv").write_text(f"url,{column}\nx,d\ny,b\nz,b\n")
    assert rows_of(str(tmp_path / "ids.csv")) == [1, 3, 4]
    assert rows_of(None) == [0, 1, 2, 3, 4]


@settings(derandomize=True, deadline=None, max_examples=50)
@given(st.integers(1, 5), st.integers(0, 100))
def test_random_subset_has_its_size_and_depends_on_the_seed(size: int, seed: int) -> None:
    rows = rows_of(f"random:{size}", seed)
    assert rows == sorted({*rows})
    assert len(rows) == size
    assert {*rows} <= {*range(5)}
    assert rows == rows_of(f"random:{size}", seed)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("key\na\nx\ny\n", r"ids\.csv: no sample has 2 of its 3 keys, such as x"),
        (
            "name,url\na,b\n",
            r"column named key or __key__ or uid or sample_id \(there are name, url\)",
        ),
        ("", r"\(there are none\)"),
        ("key\n", "it lists no keys"),
        ("key,url\na,x\n,y\n", "a row without a key"),
    ],
)
def test_unknown_keys_are_refused(content: str, text: str, tmp_path: Path) -> None:
    (tmp_path / "ids.csv").write_text(content)
    with pytest.raises(ValueError, match=text):
        rows_of(str(tmp_path / "ids.csv"))


@pytest.mark.parametrize(
    "subset", ["random:0", "random:6", "random:-1", "random:x", "random:", "nowhere.csv"]
)
def test_invalid_subset_is_refused(subset: str) -> None:
    with pytest.raises(ValueError, match=f"subset={subset}: "):
        rows_of(subset)


def test_pack_and_shards_show_only_the_subset(
    images: PackImages, results: Path, tmp_path: Path
) -> None:
    (tmp_path / "ids.csv").write_text("\n".join(["key", *images.keys[5:500:5]]))
    experiment = small("clip", subset=str(tmp_path / "ids.csv"))
    part = PackStream(experiment, images, METHODS["clip"].make_target_function(experiment), CPU)
    whole = PackStream(
        small("clip"), images, METHODS["clip"].make_target_function(small("clip")), CPU
    )
    assert part.order.num_samples == 99
    seen = [key for k in range(7) for key in part.keys(k)]
    assert {*seen} == {*images.keys[5:500:5]}
    assert part.premultiplied_rgba[3].equal(whole.premultiplied_rgba[20])
    assert part.targets.groups[0][3].equal(whole.targets.groups[0][20])

    data = write_shards(tmp_path / "data")
    (tmp_path / "ids.csv").write_text("uid\n000000012\ntrain/0003\n")
    shards = open_batch_stream(
        small("clip", data=str(data), subset=str(tmp_path / "ids.csv")), CPU, results
    )
    assert {*shards.keys(0), *shards.keys(1)} == {"000000012", "train/0003"}
    assert (
        open_batch_stream(
            small("clip", data=str(data), subset="random:7"), CPU, results
        ).order.num_samples
        == 7
    )


def test_every_method_sees_the_pack_without_the_held_out_concepts(
    images: PackImages, results: Path
) -> None:
    streams = [
        open_batch_stream(small(method, subset=WITHOUT_HELD_OUT_CONCEPTS), CPU, results)
        for method in DEFAULT_METHODS
    ]
    assert {stream.order.num_samples for stream in streams} == {
        len(images) - len(exclusion_reason_by_key())
    }
    (keys,) = {tuple(key for k in range(4) for key in stream.keys(k)) for stream in streams}
    assert len({*keys}) == 4 * 16
    assert {*images.keys} >= {*keys}
    assert exclusion_reason_by_key().keys().isdisjoint(keys)
