"""`list --towers PATTERN`: what towers cost by count."""

import json
from pathlib import Path

import timm
import torch

from bench.__main__ import main
from bench.towers.listing import MAX_TOWERS, make_tower_table


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
    table = make_tower_table("*vit*", max_towers=1)
    assert len(table.all_rows) == 1
    assert len(timm.list_models("*vit*")) > MAX_TOWERS
    assert "more towers match '*vit*'; a narrower pattern lists them." in table.note
