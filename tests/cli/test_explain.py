"""The verb, every run of it real: cells are built, timed and judged, and a factor that was planted is found."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

import bench.orchestration.preflight
from bench.__main__ import main
from bench.cli.explain import planned
from bench.console.exit_codes import INCONCLUSIVE
from bench.experiments import EXPERIMENTS
from bench.ladder import PADDING, REST, TEXT_TOWER
from bench.orchestration.interleave import Seat
from bench.orchestration.requests import Request
from bench.orchestration.runner import Runner
from bench.orchestration.worker import carry_out
from bench.record import Ladder, Speed, read_records

SHORT = ("batch_size=8", "images=96", "warmup_images=0", "warmup_steps=1", "windows=2", "steps_per_window=2")
SETTINGS = [word for setting in SHORT for word in ("--set", setting)]
TITLE = "From clip-tiny"


class Here(Runner):
    """Carries out runs in this process: what a fresh one does, without its start, each whole in its first turn."""

    def _start(self, request: Request, *_: Any, seat: Seat | None = None) -> str:
        if seat is None:
            carry_out(request)
            return ""
        os.read(seat.go, 1)
        try:
            carry_out(request)
        finally:
            seat.close()
        return ""


@pytest.fixture
def explain(own_results: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run the verb on a folder of its own; return exit code and figures."""
    monkeypatch.setattr(bench.orchestration.preflight, "Runner", Here)

    def run(*arguments: str) -> tuple[int, dict[str, Any]]:
        figures = own_results / "figures.json"
        code = main(["explain", *arguments, *SETTINGS, "--results", str(own_results), "--json", str(figures)])
        return code, json.loads(figures.read_text()) if figures.exists() else {}

    return run


def test_every_cell_runs_and_a_planted_factor_lands_on_itself(explain: Any, own_results: Path) -> None:
    """It sleeps four times as long as it works: whatever else happens here is not as large."""
    arguments = ("catlip-tiny", "--against", "clip-tiny", "--factors", "planted_delay=4", "--rounds", "2")
    code, figures = explain(*arguments)
    table = next(table for title, table in figures.items() if "against" in title or title.startswith(TITLE))
    rows = {row["cause"]: row for row in table["rows"]}
    assert rows["planted_delay"]["forward + backward"] > 2
    assert rows["planted_delay"]["whole step"] > 2
    assert all(rows[cause]["forward + backward"] < 4 for cause in (PADDING, TEXT_TOWER))
    assert rows["whole, measured apart"]["forward + backward"] > 2
    assert rows[PADDING]["by FLOPs"] > 1.05
    assert rows["planted_delay"]["by FLOPs"] == pytest.approx(1)
    assert code == INCONCLUSIVE  # one round has no interval
    records = read_records(own_results)
    ladders = [one.measured for one in records if isinstance(one.measured, Ladder)]
    speeds = [one for one in records if isinstance(one.measured, Speed)]
    assert len(ladders) == 1
    assert len(speeds) == len(ladders[0].cells) + 2
    again, same = explain(*arguments, "--resume")
    assert (again, same) == (code, figures)
    assert len(read_records(own_results)) == len(records)
    assert explain(*arguments[:3], "--resume")[0] == 2


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["clip-tiny", "--against", "catlip-tiny"], "explain catlip-tiny --against clip-tiny, not the reverse"),
        (["catlip-tiny", "--against", "clip-tinny"], "did you mean 'clip-tiny'"),
        (["catlip-tiny", "--against", "clip-tiny", "--rounds", "1"], "--rounds must be at least 2, got 1"),
        (["catlip-tiny", "--against", "clip-tiny", "--factors", "kernal"], "did you mean 'kernel'"),
        (
            ["catlip-tiny", "--against", "clip-tiny", "--recipe", "published"],
            "catlip-tiny has no published recipe (experiments with one: clip-vit-b16, catlip-vit-b16",
        ),
    ],
)
def test_what_cannot_be_explained_is_one_line(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["explain", *arguments]) == 2
    assert told in capsys.readouterr().err


def test_factors_that_a_tower_cannot_have_are_left_out_with_its_reason() -> None:
    pair = EXPERIMENTS["catlip-tiny"], EXPERIMENTS["clip-tiny"]
    ladder, cells = planned(*pair, ["sampler", "kernel"], combinations=False, on_gpu=False)
    assert [factor.name for factor in ladder.factors] == ["kernel"]
    assert "open_clip builds it for one size" in ladder.left_out["sampler"]
    assert {"precision", "compile"} < {*ladder.left_out}
    assert len(cells) == 5


def test_the_published_pair_has_a_ladder_of_its_own() -> None:
    pair = EXPERIMENTS["catlip-vit-b16-datacomp"], EXPERIMENTS["clip-vit-b16-datacomp"]
    ladder, cells = planned(*pair, ["kernel", "columns"], combinations=False, on_gpu=True)
    assert [factor.name for factor in ladder.factors] == ["sampler", "batch", "kernel", "columns"]
    assert not ladder.left_out
    assert (cells[0].attention, cells[0].simulated_batch, cells[0].batch_size) == ("plain", 65_536, 256)
    assert cells[0].text_padding == "full"
    assert ladder.causes[0] == REST
    assert (cells[4].clip_norm, cells[5].clip_norm, cells[5].text_padding) == (None, 1.0, "full")
    assert cells[6].text_padding == "none"
    assert cells[-1].image_sizes == pair[0].image_sizes
