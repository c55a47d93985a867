"""`list --towers PATTERN`: what towers cost by count, and the methods that can train them."""

import json
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode

from bench.__main__ import main
from bench.experiment.experiments import METHOD_SETTINGS
from bench.profilers.counters import count_image_flops
from bench.towers.listing import MAX_TOWERS, tower_table
from models.image_tower import build_image_tower
from tests.towers.any_tower import QUICK, TOWERS

aten = torch.ops.aten


class MatmulCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the multiply-adds of operations as they run on the CPU, from the shapes of operands and results."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.flops = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        operator = func.overloadpacket
        if operator in (aten.mm, aten.bmm):
            self.flops += 2 * result.numel() * args[0].shape[-1]
        elif operator in (aten.addmm, aten.baddbmm):
            self.flops += 2 * result.numel() * args[1].shape[-1]
        elif operator is aten.convolution:
            self.flops += 2 * result.numel() * args[1][0].numel()  # of each filter, which has the channels of a group
        return result


def counted_on_the_cpu(name: str, side: int) -> int:
    tower = build_image_tower(name, side, 0)
    images: Tensor = torch.randn(2, 3, side, side)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), MatmulCounter() as counter:
        tower(images)
    return counter.flops // 2


@pytest.mark.parametrize(
    ("name", "side"),
    [
        *QUICK.items(),
        *[pytest.param(name, side, marks=pytest.mark.exhaustive) for name, side in TOWERS.items() if name not in QUICK],
    ],
)
def test_flops_of_a_tower_equal_those_of_its_operations_on_the_cpu(name: str, side: int) -> None:
    with torch.device("meta"):
        tower = build_image_tower(name, side, 0)
    assert count_image_flops(tower, 3, side) == pytest.approx(counted_on_the_cpu(name, side), rel=0.01)


def test_towers_are_listed_with_their_costs_and_methods(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "--towers", "test_[rv]*t", "--json", str(tmp_path / "x.json")]) == 0
    assert "all but flip" in capsys.readouterr().out
    rows = {row["tower"]: row for row in json.loads((tmp_path / "x.json").read_text())["Towers"]["rows"]}
    assert rows.keys() == {"test_vit", "test_resnet"}
    assert rows["test_vit"]["methods"] == [*METHOD_SETTINGS]
    assert rows["test_resnet"]["methods"] == [method for method in METHOD_SETTINGS if method != "flip"]
    for name, row in rows.items():
        whole = timm.create_model(name, num_classes=0)
        assert row["parameters, M"] * 1e6 == sum(one.numel() for one in whole.parameters())
        assert row["width"] == whole(torch.randn(1, 3, row["px"], row["px"])).shape[1]
        assert row["GFLOP"] * 1e9 == pytest.approx(counted_on_the_cpu(name, row["px"]), rel=0.01)


def test_towers_beyond_the_limit_are_counted_and_not_built() -> None:
    table = tower_table("*vit*", limit=1)
    assert len(table.cells) == 1
    assert len(timm.list_models("*vit*")) > MAX_TOWERS
    assert "more towers match '*vit*'; a narrower pattern lists them." in table.note


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--towers", "vit_tyni*"], "no tower of open_clip or timm is named 'vit_tyni*'; did you mean vit_ti"),
        (["--towers", "*", "--fields"], "--recipe, --fields and --towers list different things"),
    ],
)
def test_pattern_without_a_tower_is_one_line(words: list[str], text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", *words]) == 2
    assert text in capsys.readouterr().err.splitlines()[-1]
