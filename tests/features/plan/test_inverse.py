"""The plan's model solved backwards gives back the ratio that it was asked for."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from bench.__main__ import main
from bench.experiment.published import PUBLISHED_RUNS
from bench.features.plan.collectives import Interconnect, ParameterCounts
from bench.features.plan.inverse import (
    POINTS_TITLE,
    SOLUTION_TITLE,
    CaseOnGpus,
    bf16_over_fp16_speed,
    gpu_speed_ratio,
    mfu_ratio_table,
    required_bandwidth,
    required_compute_ratio,
    solution_table,
    with_network,
)
from bench.features.plan.model import Cluster, ComputeProfile, PlanCase
from bench.features.plan.section import plan_blocks
from bench.interfaces.sections import Chart, Heading

FREE = Cluster(Interconnect(8, math.inf, 0.0, math.inf, 0.0), overlap=0.5)
ORDINARY = Cluster(Interconnect(8, 240e9, 2e-6, 20e9, 4e-6), overlap=0.5)
TARGET = 2.7
RECORDS = Path(__file__).parents[2] / "records"


def side(method: str, milliseconds: float, batch: int, gpus: int) -> CaseOnGpus:
    compute = ComputeProfile(0.0, milliseconds / 3000, milliseconds / 1500, 0.0, batch * gpus, 1e14)
    weights = ParameterCounts(method, 150_000_000, 0, 0, 0, 0, 1, 512 if method == "clip" else 0, 0)  # type: ignore[arg-type]
    return CaseOnGpus(PlanCase(method, weights, compute, batch), gpus)


PAIR = side("clip", 1.45, 256, 256), side("catlip", 1.0, 1024, 64)


@pytest.mark.parametrize("bandwidth", [1.0, 1 / 16])
@pytest.mark.parametrize("latency", [1, 100])
def test_the_solution_gives_the_ratio(bandwidth: float, latency: float) -> None:
    network = with_network(ORDINARY, bandwidth, latency)
    needed = required_compute_ratio(PAIR, network, TARGET)
    assert needed is not None
    assert gpu_speed_ratio(PAIR, network, needed) == pytest.approx(TARGET)


def test_without_communication_the_solution_is_the_ratio_over_that_of_the_flops() -> None:
    assert gpu_speed_ratio(PAIR, FREE) == pytest.approx(1.45)
    assert required_compute_ratio(PAIR, FREE, TARGET) == pytest.approx(TARGET / 1.45)


def test_the_largest_network_that_gives_the_ratio_alone_is_found() -> None:
    bandwidth = required_bandwidth(PAIR, ORDINARY, TARGET)
    assert bandwidth is not None
    links = replace(ORDINARY.links, network_bytes_per_second=bandwidth)
    assert gpu_speed_ratio(PAIR, replace(ORDINARY, links=links)) == pytest.approx(TARGET)
    faster = replace(ORDINARY.links, network_bytes_per_second=1.05 * bandwidth)
    assert gpu_speed_ratio(PAIR, replace(ORDINARY, links=faster)) < TARGET
    assert required_bandwidth((PAIR[0], PAIR[0]), ORDINARY, TARGET) is None


def test_what_communication_makes_impossible_has_no_solution() -> None:
    assert required_compute_ratio(PAIR, with_network(ORDINARY, 1e-4), 1e6) is None


def test_points_are_ratios_of_published_trainings_and_of_records() -> None:
    rows = {row["difference"]: row for row in mfu_ratio_table([("measured pair", 0.9, "here")]).rows}
    run = next(one for one in PUBLISHED_RUNS if (one.model, one.gpus) == ("B/16", 344))
    equal = rows["B/16 on 344 GPUs, equal images per GPU"]["MFU ratio"]
    assert equal == pytest.approx(run.high / run.low, rel=0.02)  # communication is a little of its step
    assert rows["measured pair"]["MFU ratio"] == 0.9
    assert all(row["MFU ratio"] > 1 for name, row in rows.items() if name != "measured pair")
    assert bf16_over_fp16_speed() == pytest.approx(42 / 30)


def test_a_gain_of_precision_is_named_an_illustration_with_its_source() -> None:
    table = solution_table(PAIR, ORDINARY, TARGET)
    name = f"illustration: the same with a precision {bf16_over_fp16_speed():.2f} times as fast"
    assert all(row[name] == pytest.approx(row["MFU ratio needed"] / bf16_over_fp16_speed()) for row in table.rows)
    assert [*table.rows[0]][-1] == name
    assert "an illustration and no prediction: 1.40 is bf16 over fp16 in LAION's trainings of H/14" in table.note


def test_the_page_draws_lines_and_points() -> None:
    tables = [solution_table(PAIR, ORDINARY, TARGET), mfu_ratio_table([("measured pair", 1.2, "here")])]
    title, (chart, *rest) = plan_blocks(
        json.dumps({one.title: {"rows": one.rows, "note": one.note} for one in tables}).encode()
    )
    assert isinstance(chart, Chart)
    assert "measured pair 1.20" in chart.svg
    assert "4 microseconds" in chart.svg
    assert title == SOLUTION_TITLE
    assert [block.text for block in rest if isinstance(block, Heading)] == [POINTS_TITLE]


def test_command_line_solves_for_two_experiments(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names, out = ["clip-tiny", "catlip-tiny"], tmp_path / "plan.json"
    options = ["--solve", "2.7", "--device", "a100", "--gpus", "16"]
    assert main(["plan", *names, *options, "--record", str(RECORDS), "--json", str(out)]) == 0
    tables = json.loads(out.read_text())
    rows = tables[SOLUTION_TITLE]["rows"]
    assert tables[POINTS_TITLE]["rows"][-1]["difference"] == "measured pair"
    assert rows[0]["MFU ratio needed"] > 1
    assert rows[-1]["MFU ratio needed"] is None  # communication takes too long at this size
    for wrong, message in (
        (names[:1], "needs a baseline"),
        ([*names, "--solve", "0"], "--solve must be from 1e-09 to 1e"),
    ):
        assert main(["plan", *options[:4], "--gpus", "16", *wrong]) == 2
        assert message in capsys.readouterr().err
    assert main(["plan", *names, "--solve", "2.7"]) == 2
