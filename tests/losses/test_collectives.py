"""Losses of two and four processes equal those of one on the same global batch; open_clip's in each of its modes."""

import warnings
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from open_clip.loss import ClipLoss, SigLipLoss
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

import losses.chunks
from losses.collectives import SimulatedGroup
from losses.contrastive import contrastive_loss
from losses.sigmoid import sigmoid_loss
from tests.processes import in_ranks

# Squares smaller than a process's rows, so that its own pairs lie in several.
PER_RANK, DIM, TILE_SIDE = (
    6,
    5,
    4,
)
MODES = list(product((False, True), repeat=2))  # local_loss, gather_with_grad
EXCHANGES = ["bidir", "shift", "reduce", "gather"]
Figures = dict[str, list[Tensor]]  # the value, then the gradient of each input

BOTH = "both gathered"
LOSSES: dict[str, Callable[..., Tensor]] = {
    "contrastive": contrastive_loss,
    BOTH: partial(contrastive_loss, gathers_images=True),
    "sigmoid": sigmoid_loss,
}


def features(ranks: int, dtype: torch.dtype) -> list[Tensor]:
    """Unit rows of the global batch that are nearer to their own than to others', and a scale as after training."""
    generator = torch.Generator().manual_seed(ranks)
    image, noise = torch.randn(2, ranks * PER_RANK, DIM, dtype=torch.float64, generator=generator)
    pair = F.normalize(image, dim=-1), F.normalize(image + noise, dim=-1)
    return [
        *(rows.to(dtype) for rows in pair),
        torch.tensor(9.0, dtype=dtype),
        torch.tensor(-3.0, dtype=dtype),
    ]


def figures(loss: Callable[..., Tensor], inputs: list[Tensor], **keywords: Any) -> list[Tensor]:
    leaves = [value.clone().requires_grad_() for value in inputs]
    value = loss(*leaves, **keywords)
    return [value.detach(), *torch.autograd.grad(value, leaves)]


class Pair(nn.Module):
    """The smallest pair of towers."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.image, self.text = (nn.Linear(DIM, DIM, dtype=dtype) for _ in range(2))
        self.scale = nn.Parameter(torch.tensor(9.0, dtype=dtype))

    def forward(self, image: Tensor, text: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return (
            F.normalize(self.image(image), dim=-1),
            F.normalize(self.text(text), dim=-1),
            self.scale * 1,
        )


def work(rank: int, ranks: int) -> Figures:
    """What each process computes."""
    mine, out = slice(rank * PER_RANK, (rank + 1) * PER_RANK), {}
    losses.chunks.TILE_SIDE = TILE_SIDE
    warnings.simplefilter("error")
    for dtype in (torch.float32, torch.float64):
        image, text, scale, bias = features(ranks, dtype)
        inputs = [image[mine], text[mine], scale]
        out[f"contrastive {dtype}"] = figures(contrastive_loss, inputs, group=dist.group.WORLD)
        out[f"{BOTH} {dtype}"] = figures(LOSSES[BOTH], inputs, group=dist.group.WORLD)
        out[f"sigmoid {dtype}"] = figures(sigmoid_loss, [*inputs, bias], group=dist.group.WORLD)
        model = DistributedDataParallel(Pair(dtype))
        loss = contrastive_loss(*model(image[mine], text[mine]), group=dist.group.WORLD)
        loss.backward()
        out[f"ddp {dtype}"] = [
            loss.detach(),
            *(value.grad for value in model.parameters() if value.grad is not None),
        ]
    warnings.simplefilter("ignore")  # open_clip's way to gather has been renamed
    for local, with_grad in MODES:
        theirs = ClipLoss(local_loss=local, gather_with_grad=with_grad, rank=rank, world_size=ranks)
        out[f"ClipLoss {local} {with_grad}"] = figures(theirs, inputs)
    for exchange in EXCHANGES:
        theirs = SigLipLoss(rank=rank, world_size=ranks, dist_impl=exchange)
        out[f"SigLipLoss {exchange}"] = figures(theirs, [*inputs, bias])
    return out


def compiled_work(rank: int, ranks: int) -> Figures:
    """What each process computes by losses that must be one graph each."""
    inputs = [
        value[rank * PER_RANK :][:PER_RANK] if value.ndim else value
        for value in features(ranks, torch.float64)
    ]
    out = {}
    for name, plain in LOSSES.items():
        given, loss = (
            inputs[: 4 if name == "sigmoid" else 3],
            partial(plain, group=dist.group.WORLD),
        )
        compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
        out |= {f"eager {name}": figures(loss, given), f"compiled {name}": figures(compiled, given)}
    return out


@pytest.fixture(scope="module", params=[2, 4])
def ranks(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> list[Figures]:
    """Each process's figures."""
    return in_ranks(work, request.param, tmp_path_factory.mktemp("ranks"))


def concatenated(ranks: list[Figures], name: str) -> list[Tensor]:
    """Figures of the global batch: means over the processes, each one's rows behind the other's.

    A gradient of features is divided by the number of processes, for their mean is what DDP makes of parameters.
    """
    of_ranks = zip(*(each[name] for each in ranks), strict=True)
    return [
        torch.cat(of_one) / len(ranks) if of_one[0].ndim == 2 else torch.stack(of_one).mean(0)
        for of_one in of_ranks
    ]


def equal(mine: list[Tensor], theirs: list[Tensor], tolerance: float) -> None:
    for one, other in zip(mine, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-9)])
@pytest.mark.parametrize("name", LOSSES)
def test_distributed_loss_and_gradients_equal_one_process(
    ranks: list[Figures], name: str, dtype: torch.dtype, tolerance: float
) -> None:
    inputs = features(len(ranks), dtype)[: 4 if name == "sigmoid" else 3]
    expected = figures(LOSSES[name], inputs)
    equal(concatenated(ranks, f"{name} {dtype}"), expected, tolerance)
    for each in ranks:
        torch.testing.assert_close(each[f"{name} {dtype}"][0], expected[0], rtol=tolerance, atol=0)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-9)])
def test_ddp_gradients_equal_one_process(
    ranks: list[Figures], dtype: torch.dtype, tolerance: float
) -> None:
    model = Pair(dtype)
    loss = contrastive_loss(*model(*features(len(ranks), dtype)[:2]))
    loss.backward()  # type: ignore[no-untyped-call]
    expected = [
        loss.detach(),
        *(value.grad for value in model.parameters() if value.grad is not None),
    ]
    for each in ranks:
        equal(each[f"ddp {dtype}"], expected, tolerance)


@pytest.mark.parametrize(("local", "with_grad"), MODES)
def test_open_clips_contrastive_loss_has_our_value_in_every_mode_and_our_gradients_where_it_gathers_them(
    ranks: list[Figures], local: bool, with_grad: bool
) -> None:
    """Where it does not, they are ours divided by the number of processes, or lack the other processes' part.

    How much of the gradient's direction that costs depends on the features: here a cosine of .887 and .938.
    """
    ours, theirs = (
        concatenated(ranks, name)
        for name in ("contrastive torch.float64", f"ClipLoss {local} {with_grad}")
    )
    torch.testing.assert_close(ours[0], theirs[0], rtol=1e-9, atol=0)
    if with_grad:
        equal(ours[1:3], theirs[1:3], 1e-9)
    elif not local:
        equal([value / len(ranks) for value in ours[1:3]], theirs[1:3], 1e-9)
    else:
        cosine = F.cosine_similarity(
            torch.cat(ours[1:3]).flatten(), torch.cat(theirs[1:3]).flatten(), dim=0
        )
        assert cosine == pytest.approx({2: 0.887, 4: 0.938}[len(ranks)], abs=0.001), float(cosine)
    equal(ours[3:], theirs[3:], 1e-9)


def test_loss_of_both_gathered_equals_open_clips_on_every_process(ranks: list[Figures]) -> None:
    """Gradients of a process's own features and of its scale; open_clip's value is that of its rows alone."""
    for each in ranks:
        equal(each[f"{BOTH} torch.float64"][1:], each["ClipLoss True True"][1:], 1e-12)


@pytest.mark.parametrize("exchange", EXCHANGES)
def test_open_clips_sigmoid_loss_equals_ours_in_every_exchange_mode(
    ranks: list[Figures], exchange: str
) -> None:
    equal(
        concatenated(ranks, "sigmoid torch.float64"),
        concatenated(ranks, f"SigLipLoss {exchange}"),
        1e-9,
    )


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("many", [1, 3])
def test_simulated_group_equals_ranks_with_equal_rows(
    name: str, many: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Value and gradients are those of the rows so many times; of rows times the processes, as each of them has."""
    monkeypatch.setattr(losses.chunks, "TILE_SIDE", TILE_SIDE)
    image, text, *scalars = features(1, torch.float64)[: 4 if name == "sigmoid" else 3]
    mine = figures(LOSSES[name], [image, text, *scalars], group=SimulatedGroup(many))
    whole = figures(LOSSES[name], [image.repeat(many, 1), text.repeat(many, 1), *scalars])
    own = [many * rows[:PER_RANK] for rows in whole[1:3]]
    equal(mine, [whole[0], *own, *whole[3:]], 1e-12)


def test_loss_over_a_group_is_one_compiled_graph(tmp_path: Path) -> None:
    """Lists of tensors in a collective would break the graph at each."""
    for each, name in product(in_ranks(compiled_work, 2, tmp_path), LOSSES):
        equal(each[f"compiled {name}"], each[f"eager {name}"], 1e-12)
