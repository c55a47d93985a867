"""The verb, every run of it real: configurations are built, timed and judged, and an injected factor is found."""

import json
from pathlib import Path
from typing import Any

import pytest

from bench.__main__ import main
from bench.console.console import OK
from bench.experiment.experiments import EXPERIMENTS
from bench.features.explain.ladder import PADDING, REST, TEXT_TOWER, Ladder
from bench.features.explain.verb import plan_ladder
from bench.records.record import Speed, read_records
from tests.processes import InProcess

SHORT = (
    "batch_size=8",
    "images=96",
    "warmup_images=0",
    "warmup_steps=1",
    "windows=2",
    "steps_per_window=1",
)
SETTINGS = [word for setting in SHORT for word in ("--set", setting)]
TITLE = "From clip-tiny"


@pytest.fixture
def explain(own_results: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run the verb on a folder of its own; return exit code and figures."""
    monkeypatch.setattr("bench.orchestration.preflight.Runner", InProcess)
    # Other tests run beside this one.
    monkeypatch.setattr("bench.measure.speed.core_waits", lambda *_: 0.0)

    def run(*arguments: str) -> tuple[int, dict[str, Any]]:
        figures = own_results / "figures.json"
        code = main(
            [
                "explain",
                *arguments,
                *SETTINGS,
                "--results",
                str(own_results),
                "--json",
                str(figures),
            ]
        )
        return code, json.loads(figures.read_text()) if figures.exists() else {}

    return run


@pytest.mark.minutes
def test_every_configuration_runs_and_an_injected_factor_is_attributed_to_itself(
    explain: Any, own_results: Path
) -> None:
    """It sleeps thirty-two times as long as it works: a busy machine makes no run that much slower than another."""
    arguments = (
        "catlip-tiny",
        "--baseline",
        "clip-tiny",
        "--factors",
        "injected_slowdown=32",
        "--rounds",
        "2",
    )
    code, figures = explain(*arguments)
    table = next(
        table for title, table in figures.items() if "against" in title or title.startswith(TITLE)
    )
    rows = {row["cause"]: row for row in table["rows"]}
    assert rows["injected_slowdown"]["forward + backward"][0] > 2
    assert rows["injected_slowdown"]["whole step"][0] > 2
    of_sleep = rows["injected_slowdown"]["forward + backward"][0]
    assert all(rows[cause]["forward + backward"][0] < of_sleep for cause in (PADDING, TEXT_TOWER))
    assert rows["whole ratio"]["forward + backward"][0] > 2
    assert rows[PADDING]["FLOP-predicted"] > 1.05
    assert rows["injected_slowdown"]["FLOP-predicted"] == pytest.approx(1)
    assert code == OK
    records = read_records(own_results)
    ladders = [one.measured for one in records if isinstance(one.measured, Ladder)]
    speeds = [one for one in records if isinstance(one.measured, Speed)]
    assert len(ladders) == 1
    assert len(speeds) == 2 * len(ladders[0].rungs)
    again, same = explain(*arguments, "--resume")
    assert (again, same) == (code, figures)
    assert len(read_records(own_results)) == len(records)
    assert explain(*arguments[:3], "--resume")[0] == 2


def test_time_that_is_over_leaves_two_rounds(explain: Any, own_results: Path) -> None:
    explain("superclass-cls-tiny", "--baseline", "catlip-tiny", "--minutes", "0.001")
    runs = [
        one.measured.round for one in read_records(own_results) if isinstance(one.measured, Speed)
    ]
    assert sorted({*runs}) == [0, 1]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (
            ["clip-tiny", "--baseline", "catlip-tiny"],
            "explain catlip-tiny --baseline clip-tiny, not the reverse",
        ),
        (["catlip-tiny", "--baseline", "clip-tinny"], "did you mean 'clip-tiny'"),
        (
            ["catlip-tiny", "--baseline", "clip-tiny", "--rounds", "1"],
            "--rounds must be from 2 to 10000, got 1",
        ),
        (
            ["catlip-tiny", "--baseline", "clip-tiny", "--minutes", "0"],
            "--minutes must be from 0.001 to 1e+06",
        ),
        (
            ["catlip-tiny", "--baseline", "clip-tiny", "--factors", "kernal"],
            "did you mean 'kernel'",
        ),
        (
            ["catlip-tiny", "--baseline", "clip-tiny", "--recipe", "published"],
            "catlip-tiny has no published recipe (experiments with one: clip-vit-b16, catlip-vit-b16",
        ),
    ],
)
def test_unexplainable_pair_is_refused_in_one_line(
    arguments: list[str], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["explain", *arguments]) == 2
    assert text in capsys.readouterr().err


def test_factors_a_tower_does_not_support_are_left_out_with_the_reason() -> None:
    pair = EXPERIMENTS["catlip-tiny"], EXPERIMENTS["clip-tiny"]
    ladder, configurations = plan_ladder(*pair, ["sampler", "kernel"], on_gpu=False)
    assert ladder.causes[0] == "kernel"
    assert "leave 8 of 32 px uncovered" in ladder.left_out["sampler"]
    assert {"precision", "compile"} < {*ladder.left_out}
    assert len(configurations) == 5


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("catlip-tiny", "catlip-tiny computes in fp32"),
        ("catlip-vit-b16", "which has no fp32 sums between its blocks"),
        ("catlip-vit-b16-datacomp", None),
    ],
)
def test_residual_precision_is_a_factor_where_it_changes_the_step(
    name: str, reason: str | None
) -> None:
    pair = EXPERIMENTS[name], EXPERIMENTS[name.replace("catlip", "clip")]
    ladder, _ = plan_ladder(*pair, ["residual"], on_gpu=True)
    assert ("residual" in ladder.causes) == (reason is None)
    assert str(reason) in ladder.left_out.get("residual", "None")


def test_published_pair_has_its_own_ladder() -> None:
    pair = EXPERIMENTS["catlip-vit-b16-datacomp"], EXPERIMENTS["clip-vit-b16-datacomp"]
    ladder, configurations = plan_ladder(*pair, ["kernel", "global_negatives"], on_gpu=True)
    assert ladder.causes[:7] == (
        "sampler",
        "batch",
        "grad_norm",
        "precision",
        "kernel",
        "gather",
        "global_negatives",
    )
    assert not ladder.left_out
    first, released, padded = (configurations[at] for at in (0, 7, 8))
    assert (first.runtime.attention, first.runtime.simulated_global_batch) == (
        "fp32_softmax",
        65_536,
    )
    assert (first.training.batch_size, first.text.text_padding) == (256, "max_length")
    assert ladder.causes[7] == REST
    assert (released.optimizer.clip_norm, padded.optimizer.clip_norm) == (None, 1.0)
    assert padded.text.text_padding == "max_length"
    assert configurations[9].text.text_padding == "auto"
    assert configurations[-1].image.image_sizes == pair[0].image.image_sizes
