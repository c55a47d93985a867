"""Precomputed embeddings: grids in shards are read as they are, and train any method as images do."""

import io
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from bench.data.decoding import (
    EMPTY,
    NOT_AN_ARRAY,
    NOT_FINITE,
    UnusableImageError,
    decode_embedding_grid,
)
from bench.data.sample_stream import SampleStream
from bench.experiment.config import change
from bench.interfaces.method import require_method_accepts
from bench.towers.tower_from import load_tower_and_provenance
from bench.train.build import build_train_run, open_batch_stream
from bench.train.loop import train
from bench.transfer.feature_extractor import make_tower_embedder
from models.image_tower import build_image_tower
from tests.data.shards import CAPTIONS, encode_image, make_image, write_shard
from tests.data.test_stream import CPU
from tests.small import small

CHANNELS, SIDE = 5, 4


def npy(grid: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, grid)
    return file.getvalue()


def grid(number: int, kind: str = "<f4") -> np.ndarray:
    return np.random.default_rng(number).normal(size=(CHANNELS, SIDE, SIDE)).astype(kind)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    members = {
        "lost.txt": b"an image without its embedding",
        "lost.jpg": encode_image(make_image(1)),
    }
    for number in range(20):
        members[f"{number}.npy"] = npy(grid(number, "<f2" if number % 2 else "<f4"))
        members[f"{number}.jpg"] = encode_image(make_image(number))
        members[f"{number}.txt"] = CAPTIONS[number % 6].encode()
    return write_shard(tmp_path_factory.mktemp("grids") / "0.tar", members)


def experiment(data: Path, method: str = "catlip", **changes: object) -> object:
    return small(
        method,
        data=str(data),
        input_embedding_grid_channels=CHANNELS,
        image_size=SIDE,
        batch_size=5,
        **changes,
    )


def test_embedding_grid_is_read_bit_exactly_without_augmentation(data: Path, results: Path) -> None:
    for workers in (0, 1):
        stream = open_batch_stream(experiment(data, workers=workers), CPU, results)
        assert isinstance(stream, SampleStream)
        batch = stream.batch(3)
        wanted = [
            grid(int(key), "<f2" if int(key) % 2 else "<f4").astype("<f4") for key in stream.keys(3)
        ]
        assert batch.images.equal(torch.from_numpy(np.stack(wanted)))
        assert stream.skipped == {"no image": 1}


@pytest.mark.parametrize("method", ["clip", "siglip", "catlip", "superclass", "superclip"])
def test_every_method_but_distillation_trains_on_embeddings(
    method: str, data: Path, results: Path
) -> None:
    run = build_train_run(open_batch_stream(experiment(data, method), CPU, results))
    before = run.tower.trunk.conv1.weight.clone()
    assert run.step(run.stream.batch(0), 1e-3).isfinite()
    assert not torch.equal(run.tower.trunk.conv1.weight, before)


def test_embedding_tower_is_saved_and_refuses_images(
    data: Path, results: Path, tmp_path: Path
) -> None:
    short, path = experiment(data, images_seen=20, warmup_images=5), tmp_path / "tower.safetensors"
    training = train(short, CPU, results, {"b": 20}, lambda _: path)
    assert len(training.branches) == 1
    tower, made = load_tower_and_provenance(path)
    assert (tower.channels, made.experiment.image.input_embedding_grid_channels) == (
        CHANNELS,
        CHANNELS,
    )
    assert tower(torch.zeros(2, CHANNELS, SIDE, SIDE)).shape == (2, tower.width)
    with pytest.raises(
        ValueError, match="the tasks hold images, and this tower reads embeddings of 5 channels"
    ):
        make_tower_embedder(tower, CPU)


@pytest.mark.parametrize("name", ["catlip-bench-tiny", "vit_tiny_patch16_224"])
def test_each_embedding_is_one_patch(name: str) -> None:
    tower = build_image_tower(name, SIDE, 0, input_embedding_grid_channels=CHANNELS).eval()
    one = torch.randn(1, CHANNELS, SIDE, SIDE)
    other = one.clone()
    other[..., 2, 3] += 1
    assert tower.trunk.get_parameter(stem(name)).shape[1:] == (CHANNELS, 1, 1)
    assert not tower(one).equal(tower(other))
    assert tower(one).equal(
        build_image_tower(name, SIDE, 0, input_embedding_grid_channels=CHANNELS).eval()(one)
    )


def stem(name: str) -> str:
    return "conv1.weight" if name.startswith("catlip") else "patch_embed.proj.weight"


@pytest.mark.parametrize(
    "name",
    ["ViTamin-S", "RN50", "resnet18", "mixer_s32_224"],
)
def test_tower_without_patch_embedding_is_refused(name: str) -> None:
    text = f"tower '{name}' cannot read embeddings; accepted are the VisionTransformers of"
    with pytest.raises(ValueError, match=text):
        build_image_tower(name, SIDE, 0, input_embedding_grid_channels=CHANNELS)


class Hostile:
    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (Path("executed"),)


def as_objects() -> bytes:
    file = io.BytesIO()
    np.save(file, np.array([Hostile()], object), allow_pickle=True)
    return file.getvalue()


def huge() -> bytes:
    """A header that promises a terabyte."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        file, {"descr": "<f4", "fortran_order": False, "shape": (5, 2**18, 2**18)}
    )
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", EMPTY),
        (encode_image(make_image(1)), NOT_AN_ARRAY),
        (pickle.dumps([1.0]), NOT_AN_ARRAY),
        (as_objects(), NOT_AN_ARRAY),
        (npy(grid(1).astype(np.int32)), NOT_AN_ARRAY),
        (npy(grid(1))[:-1], NOT_AN_ARRAY),
        (npy(grid(1)[:, :3]), r"shape (5, 3, 4), not (5, 4, 4)"),
        (huge(), NOT_AN_ARRAY),
        (npy(np.full((CHANNELS, SIDE, SIDE), np.nan, "<f4")), NOT_FINITE),
    ],
)
def test_invalid_grid_has_an_error_class_and_is_not_unpickled(content: bytes, text: str) -> None:
    with pytest.raises(UnusableImageError) as error:
        decode_embedding_grid(content, CHANNELS, SIDE)
    assert str(error.value) == text
    assert not Path("executed").exists()


def test_invalid_combination_is_refused(data: Path) -> None:
    for changes, text in (
        ({"data": "shipped-pack"}, "needs data=SHARDS"),
        ({"random_image_sizes": (4, 8)}, "needs random_image_sizes to be empty"),
        ({"method": "distill"}, "is not for distill"),
    ):
        with pytest.raises(ValueError, match=f"input_embedding_grid_channels=5 {text}"):
            require_method_accepts(change(experiment(data), **changes))
