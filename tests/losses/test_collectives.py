"""Losses of three processes equal those of one on the same global batch; open_clip's in each of its modes."""

import warnings
from collections.abc import Callable
from functools import partial
from itertools import product
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from open_clip.loss import ClipLoss, SigLipLoss
from torch import Tensor

import losses.chunks
from losses.collectives import SimulatedGroup
from losses.contrastive import contrastive_loss
from losses.sigmoid import sigmoid_loss
from tests.processes import in_ranks

RANKS = 3
# Squares smaller than a process's rows, so that its own pairs lie in several.
PER_RANK, DIM, TILE_SIDE = 6, 5, 4
MODES = list(product((False, True), repeat=2))  # local_loss, gather_with_grad
EXCHANGES = ["bidir", "shift", "reduce", "gather"]
Figures = dict[str, list[Tensor]]  # the value, then the gradient of each input

BOTH = "both gathered"
LOSSES: dict[str, Callable[..., Tensor]] = {
    "contrastive": contrastive_loss,
    BOTH: partial(contrastive_loss, gathers_images=True),
    "sigmoid": sigmoid_loss,
}


def features(ranks: int, name: str) -> list[Tensor]:
    """Unit rows of the global batch that are nearer to their own than to others', and a scale as after training."""
    generator = torch.Generator().manual_seed(ranks)
    image, noise = torch.randn(2, ranks * PER_RANK, DIM, dtype=torch.float64, generator=generator)
    inputs = [
        F.normalize(image, dim=-1),
        F.normalize(image + noise, dim=-1),
        torch.tensor(9.0, dtype=torch.float64),
    ]
    return [*inputs, torch.tensor(-3.0, dtype=torch.float64)] if "sig" in name.lower() else inputs


def figures(loss: Callable[..., Tensor], inputs: list[Tensor], **keywords: Any) -> list[Tensor]:
    leaves = [value.clone().requires_grad_() for value in inputs]
    value = loss(*leaves, **keywords)
    return [value.detach(), *torch.autograd.grad(value, leaves)]


def work(rank: int, ranks: int) -> Figures:
    """What each process computes; losses of ours must be one graph each, which one process compiles."""
    out = {}
    losses.chunks.TILE_SIDE = TILE_SIDE

    def own_inputs(name: str) -> list[Tensor]:
        rows = slice(rank * PER_RANK, (rank + 1) * PER_RANK)
        return [value[rows] if value.ndim else value for value in features(ranks, name)]

    warnings.simplefilter("error")
    for name, plain in LOSSES.items():
        loss = partial(plain, group=dist.group.WORLD)
        out[name] = figures(loss, own_inputs(name))
    warnings.simplefilter("ignore")  # open_clip's way to gather has been renamed
    for local, with_grad in MODES:
        name = f"ClipLoss {local} {with_grad}"
        theirs = ClipLoss(local_loss=local, gather_with_grad=with_grad, rank=rank, world_size=ranks)
        out[name] = figures(theirs, own_inputs(name))
    for exchange in EXCHANGES:
        name = f"SigLipLoss {exchange}"
        theirs = SigLipLoss(rank=rank, world_size=ranks, dist_impl=exchange)
        out[name] = figures(theirs, own_inputs(name))
    for name, plain in LOSSES.items():
        loss = partial(plain, group=dist.group.WORLD)
        if rank == 0:
            loss = torch.compile(loss, fullgraph=True, backend="aot_eager")
        out[f"compiled {name}"] = figures(loss, own_inputs(name))
    return out


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[Figures]:
    """Each process's figures."""
    return in_ranks(work, RANKS, tmp_path_factory.mktemp("ranks"))


def concatenated(ranks: list[Figures], name: str) -> list[Tensor]:
    """Figures of the global batch: means over the processes, each one's rows behind the other's.

    A gradient of features is divided by the number of processes, for their mean is what DDP makes of parameters.
    """
    of_ranks = zip(*(rank[name] for rank in ranks), strict=True)
    return [
        torch.cat(values) / RANKS if values[0].ndim == 2 else torch.stack(values).mean(0)
        for values in of_ranks
    ]


def equal(mine: list[Tensor], theirs: list[Tensor], tolerance: float = 1e-9) -> None:
    for value, other in zip(mine, theirs, strict=True):
        torch.testing.assert_close(value, other, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", LOSSES)
def test_distributed_loss_and_gradients_equal_one_process(ranks: list[Figures], name: str) -> None:
    expected = figures(LOSSES[name], features(RANKS, name))
    equal(concatenated(ranks, name), expected)
    for rank in ranks:
        equal(rank[name][:1], expected[:1])


@pytest.mark.parametrize(("local", "with_grad"), MODES)
def test_open_clips_contrastive_loss_has_our_value_in_every_mode_and_our_gradients_where_it_gathers_them(
    ranks: list[Figures], local: bool, with_grad: bool
) -> None:
    """Where it does not, they are ours divided by the number of processes, or lack the other processes' part."""
    ours, theirs = (
        concatenated(ranks, n) for n in ("contrastive", f"ClipLoss {local} {with_grad}")
    )
    equal(ours[:1], theirs[:1])
    if with_grad:
        equal(ours[1:3], theirs[1:3])
    elif not local:
        equal([value / RANKS for value in ours[1:3]], theirs[1:3])
    else:
        directions = (torch.cat(values[1:3]).flatten() for values in (ours, theirs))
        assert F.cosine_similarity(*directions, dim=0) == pytest.approx(0.965, abs=0.001)
    equal(ours[3:], theirs[3:])


def test_loss_of_both_gathered_equals_open_clips_on_every_process(ranks: list[Figures]) -> None:
    """Gradients of a process's own features and of its scale; open_clip's value is that of its rows alone."""
    for rank in ranks:
        equal(rank[BOTH][1:], rank["ClipLoss True True"][1:], 1e-12)


@pytest.mark.parametrize("exchange", EXCHANGES)
def test_open_clips_sigmoid_loss_equals_ours_in_every_exchange_mode(
    ranks: list[Figures], exchange: str
) -> None:
    equal(concatenated(ranks, "sigmoid"), concatenated(ranks, f"SigLipLoss {exchange}"))


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("size", [1, 3])
def test_simulated_group_equals_ranks_with_equal_rows(
    name: str, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Value and gradients are those of the rows so many times; of rows times the processes, as each of them has."""
    monkeypatch.setattr(losses.chunks, "TILE_SIDE", TILE_SIDE)
    image, text, *scalars = features(1, name)
    mine = figures(LOSSES[name], [image, text, *scalars], group=SimulatedGroup(size))
    whole = figures(LOSSES[name], [image.repeat(size, 1), text.repeat(size, 1), *scalars])
    own_rows = [size * rows[:PER_RANK] for rows in whole[1:3]]
    equal(mine, [whole[0], *own_rows, *whole[3:]], 1e-12)


@pytest.mark.parametrize("name", LOSSES)
def test_loss_over_a_group_is_one_compiled_graph(ranks: list[Figures], name: str) -> None:
    """Lists of tensors in a collective would break the graph at each."""
    equal(ranks[0][f"compiled {name}"], ranks[0][name], 1e-12)
