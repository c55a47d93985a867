"""`list --towers PATTERN`: what towers cost by count."""

import json
from pathlib import Path

import pytest
import timm
import torch

from bench.__main__ import main
from bench.towers.listing import MAX_TOWERS, tower_table

aten = torch.ops.aten


def test_towers_are_listed_with_their_costs(tmp_path: Path) -> None:
    assert main(["list", "--towers", "test_[rv]*t", "--json", str(tmp_path / "x.json")]) == 0
    rows = {
        row["tower"]: row for row in json.loads((tmp_path / "x.json").read_text())["Towers"]["rows"]
    }
    assert rows.keys() == {"test_vit", "test_resnet"}
    for name, row in rows.items():
        whole = timm.create_model(name, num_classes=0)
        assert row["parameters, M"] * 1e6 == sum(one.numel() for one in whole.parameters())
        assert row["width"] == whole(torch.randn(1, 3, row["px"], row["px"])).shape[1]
        assert row["GFLOP"] > 0


def test_towers_beyond_the_limit_are_counted_and_not_built() -> None:
    table = tower_table("*vit*", max_towers=1)
    assert len(table.all_rows) == 1
    assert len(timm.list_models("*vit*")) > MAX_TOWERS
    assert "more towers match '*vit*'; a narrower pattern lists them." in table.note


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (
            ["--towers", "vit_tyni*"],
            "no tower of open_clip or timm is named 'vit_tyni*'; names that exist: ",
        ),
    ],
)
def test_pattern_without_a_tower_is_one_line(
    words: list[str], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["list", *words]) == 2
    assert text in capsys.readouterr().err.splitlines()[-1]
