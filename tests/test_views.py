"""A method can have two views of each image, and read the rows and the number of a batch."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bench.data.pack import PackImages
from bench.data.stream import Batch
from bench.experiment.experiments import get_experiment
from bench.interfaces.extensions import load_features_and_extensions
from bench.interfaces.method import METHODS, Method, NoTarget, require_method_accepts
from bench.measure.costs import count_mean_step_flops, count_parameters_and_forward_flops
from bench.train.augmentation import MethodWithRangeAugment
from bench.train.build import open_batch_stream
from losses.collectives import rank_and_world_size
from models.range_augment import RangeAugment
from tests.data.shards import webdataset_members, write_shard
from tests.data.test_stream import CPU, stream
from tests.processes import in_child
from tests.small import small

ROOT = Path(__file__).parents[1]
SIMCLR = ROOT / "docs" / "extensions" / "simclr.py"
REMEMBERING = ROOT / "tests" / "remembering.py"
RATE = 1e-3


@pytest.fixture
def two_views(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let CatLIP read two views, rows and step, which its loss cannot compute."""
    catlip = type(METHODS["catlip"])
    monkeypatch.setattr(catlip, "views", 2)
    monkeypatch.setattr(catlip, "reads_rows_and_step", True)


@pytest.mark.usefixtures("two_views")
def test_first_view_of_the_pack_is_the_image_of_other_methods(images: PackImages) -> None:
    for k in (0, 5):
        batch = stream(images).batch(k)
        image = stream(images, "clip").batch(k).images
        assert batch.images.shape == (16, 2, 3, 48, 48)
        assert batch.images[:, 0].equal(image)
        assert (batch.images[:, 1] - image).abs().mean((1, 2, 3)).min() > 0.01
        assert stream(images, rank=1, ranks=2).batch(k).images.shape == batch.images.shape


@pytest.mark.usefixtures("two_views")
def test_rows_and_step_are_those_of_the_batch_on_every_rank(images: PackImages) -> None:
    for rank in (0, 1):
        for subset in (None, "random:96"):
            ranked = stream(images, rank=rank, ranks=2, subset=subset)
            batch = ranked.batch(7)
            assert batch.number == 7
            assert batch.rows is not None
            assert [images.keys[row] for row in batch.rows] == ranked.keys(7)
    assert stream(images, "clip").batch(7).sample_rows_and_step_kwargs == {}


@pytest.mark.usefixtures("two_views")
def test_micro_batches_are_the_batch_in_parts(images: PackImages) -> None:
    batch = stream(images).batch(3)
    parts = batch.split_into_micro_batches(4)
    assert [len(part.images) for part in parts] == [4] * 4
    assert torch.cat([part.images for part in parts]).equal(batch.images)
    for part, rows in zip(parts, batch.sample_rows_and_step_kwargs["rows"].chunk(4), strict=True):
        assert part.sample_rows_and_step_kwargs["rows"].equal(rows)
        assert part.sample_rows_and_step_kwargs["step"] == 3


@pytest.mark.usefixtures("two_views")
def test_embeddings_have_no_views() -> None:
    experiment = small("catlip", data="grids.tar", input_embedding_grid_channels=8, image_size=16)
    with pytest.raises(
        ValueError, match="input_embedding_grid_channels must be None, for catlip needs"
    ):
        require_method_accepts(experiment)


def test_views_and_rows_of_files_are_equal_with_and_without_workers(
    tmp_path: Path, results: Path
) -> None:
    """A broken image counts once, and its views and row are those of the image that replaces it."""
    members = webdataset_members(0, 30)
    members["train/0003.jpeg"] = b"no JPEG"
    data = write_shard(tmp_path / "data.tar", members)
    in_child(compare_views_of_files, str(data), results)


def compare_views_of_files(data: str, results: Path) -> None:
    load_features_and_extensions([str(REMEMBERING)])
    changes: dict[str, Any] = {"data": data, "batch_size": 10}
    single = open_batch_stream(small("clip", **changes), CPU, results)
    alone, by_workers = (
        open_batch_stream(small("remembering", workers=workers, **changes), CPU, results)
        for workers in (0, 2)
    )
    row_of_key = {}
    for k in (0, 1, 2, 7, 1):
        expected = single.batch(k)
        batches = [alone.batch(k), by_workers.batch(k)]
        rows = batches[0].rows.tolist()
        for batch in batches:
            assert batch.images.is_contiguous()
            assert batch.images[:, 0].equal(expected.images)
            assert not batch.images[:, 1].equal(expected.images)
            assert batch.images.equal(batches[0].images)
            assert (batch.number, batch.rows.tolist()) == (k, rows)
        for key, row in zip(alone.keys(k), rows, strict=True):
            assert row_of_key.setdefault(key, row) == row
    assert len(row_of_key) == 30
    assert len({*row_of_key.values()}) == 29
    assert single.skipped == alone.skipped == by_workers.skipped != {}
    assert alone.stats.decoded == single.stats.decoded


def test_costs_per_image_are_those_of_both_views() -> None:
    in_child(compare_costs)


def compare_costs() -> None:
    load_features_and_extensions([str(SIMCLR)])
    experiment = small("simclr")
    size = experiment.training.batch_size
    flops = count_mean_step_flops(experiment, [NoTarget()])
    costs = count_parameters_and_forward_flops(experiment)
    assert costs.image_flops == 2 * count_parameters_and_forward_flops(small("catlip")).image_flops
    assert flops.image_forward == size * costs.image_flops
    assert get_experiment("simclr-vit-b16").training == get_experiment("clip-vit-b16").training


class Given(Method):
    """Keeps what its loss is given."""

    name = "given"
    views = 2
    reads_rows_and_step = True

    def build_model(self, tower: Any, _: Any) -> nn.Module:
        return tower

    def loss(
        self, _model: Any, images: Tensor, _target: Any, _: Any, rows: Any = None, step: int = 0
    ) -> Tensor:
        self.given = images, rows, step
        return images.mean()


def test_range_augmentation_changes_all_views_and_passes_rows_and_step_on() -> None:
    method = Given()
    model = nn.Module()
    model.augmentor = RangeAugment()
    images = torch.rand(4, 2, 3, 8, 8)
    batch = Batch(images, NoTarget(), 9, torch.arange(4))
    losses = []
    for shown in (batch, replace(batch, images=images.flatten(0, 1), rows=torch.arange(8))):
        torch.manual_seed(0)
        losses.append(shown.compute_loss(MethodWithRangeAugment(method, 10).loss, model))
        augmented, rows, step = method.given
        assert augmented.shape == shown.images.shape
        assert not augmented.equal(shown.images)
        assert rows is shown.rows
        assert step == 9
    assert losses[0].equal(losses[1])


def test_local_rows_of_all_ranks_are_one_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    from losses import collectives

    assert rank_and_world_size(None) == (0, 1)
    for draw, options in ((torch.rand, {}), (torch.randn, {"dtype": torch.float64})):
        whole = draw(12, 2, generator=torch.Generator().manual_seed(1), **options)
        for ranks in (1, 2, 4):
            parts = []
            for rank in range(ranks):
                place = (rank, ranks)
                monkeypatch.setattr(collectives, "rank_and_world_size", lambda _, at=place: at)
                generator = torch.Generator().manual_seed(1)
                shape = (12 // ranks, 2)
                part = collectives.draw_local_rows(
                    draw, shape, None, generator=generator, **options
                )
                parts.append(part)
            assert torch.cat(parts).equal(whole)
    assert collectives.draw_local_rows(torch.rand, (3, 2), None, device="meta").shape == (3, 2)
