"""An injected factor is found in fresh processes, and the parts make the whole: some minutes on a quiet machine."""

import json
import math
from pathlib import Path

import pytest

from bench.__main__ import main
from bench.console.console import INCONCLUSIVE, OK

PLANTED, NEAR = 0.25, 0.08

pytest.importorskip("bench.features.explain")
pytestmark = pytest.mark.minutes


def test_a_planted_factor_lands_on_itself(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    pair = ("catlip-tiny", "--baseline", "clip-tiny", "--factors", f"injected_slowdown={PLANTED}")
    assert main(["explain", *pair, "--results", str(tmp_path), "--json", str(figures)]) in (OK, INCONCLUSIVE)
    tables = json.loads(figures.read_text())
    rows = next(table["rows"] for title, table in tables.items() if title.startswith("From clip-tiny"))
    found = next(row for row in rows if row["cause"] == "injected_slowdown")
    for figure in ("forward + backward", "whole step"):
        assert abs(math.log(found[figure] / (1 + PLANTED))) <= NEAR
