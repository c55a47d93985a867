"""Every rank's figures are in the record, and a slow rank is named in the table and on the page."""

import platform
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import bench.measure.speed as speed_module
from bench.environment.rank_info import MIXED_MACHINES
from bench.measure.memory import measure_memory
from bench.measure.ranks import PEAK_MEMORY, find_slow_ranks, rank_table, spreads_over_ranks
from bench.measure.speed import measure_speed
from bench.profilers.device import max_other_cpu_percent
from bench.records.record import OTHERS_BUSY, OWN_BUSY, WAIT_FIGURE, Memory, Record, Speed
from bench.statistics.verdicts import RUNS_FOR_SLOW_RANK, find_slow_rank
from bench.train.build import build_train_state
from bench.train.distributed import require_equal_nodes
from reports.page import page
from tests.processes import in_ranks
from tests.small import circumstances, small
from tests.speeds import speed

CPU = torch.device("cpu")


def record(measured: Speed | Memory, **changes: object) -> Record:
    where = circumstances(processes=2)
    return Record(
        comparison="c",
        experiment=small("catlip", **changes),
        circumstances=where,
        measured=measured,
    )


def drawn(
    random: np.random.Generator, ranks: int, runs: int, factors: dict[int, float]
) -> list[list[float]]:
    """Return the work of ranks that vary by 2 %."""
    work = np.exp(random.normal(0, 0.02, (runs, ranks)))
    for rank, factor in factors.items():
        work[:, rank] *= factor
    return [list(row) for row in work]


@pytest.mark.parametrize("ranks", [2, 8, 64])
@pytest.mark.parametrize("runs", [3, 5, 10])
def test_slow_rank_is_found_and_equal_ranks_are_not_accused(ranks: int, runs: int) -> None:
    random = np.random.default_rng(ranks + runs)
    draws = [drawn(random, ranks, runs, {1: 1.1}) for _ in range(200)]
    found = [find_slow_rank(work) for work in draws]
    assert np.mean([one is not None and one[0] == 1 for one in found]) > 0.95
    accused = np.mean(
        [find_slow_rank(drawn(random, ranks, runs, {})) is not None for _ in range(200)]
    )
    assert accused <= 0.02


def test_factor_is_over_the_other_ranks_and_a_passing_slowness_accuses_none() -> None:
    assert find_slow_rank([[1.0, 1.0, 1.2], [1.0, 1.0, 1.1], [1.0, 1.0, 1.3]]) == (
        2,
        pytest.approx(1.2),
    )
    assert find_slow_rank([[1.0, 1.5, 1.0], [1.0, 1.5, 1.0], [1.0, 1.0, 1.0]]) is None
    assert find_slow_rank([[1.0, 1.5, 1.0]] * 2) is None  # too few runs
    assert find_slow_rank([]) is None


def of_two(round_: int) -> Speed:
    """Return a run of two ranks, of which the second has slower forwards."""
    figures = {
        "image forward, ms": (10.0, 12.0),
        "data, ms": (1.0, 1.0),
        "backward, ms": (30.0, 28.0),
        WAIT_FIGURE: (0.0, 0.5),
    }
    windows = ((2.0, 2.0), (2.0, 2.0))
    return speed(
        round=round_, rank_window_seconds=windows, rank_figures=figures, rank_hosts=("a", "b, H100")
    )


def test_spreads_are_medians_over_runs_then_extremes_over_ranks() -> None:
    memory = Memory(
        steps=4,
        trained_parameters=1,
        peak_rss_bytes=3 * 2**20,
        peak_allocated_bytes=None,
        peak_reserved_bytes=None,
        peak_tensor_bytes=None,
        rank_peak_bytes=(2**20, 3 * 2**20),
    )
    records = [*(record(of_two(number)) for number in range(3)), record(memory)]
    found = {one.figure: one for one in spreads_over_ranks(records, "catlip-tiny")}
    backward, peak = found["backward, ms"], found[PEAK_MEMORY]
    assert (backward.least, backward.rank_of_minimum, backward.median, backward.most) == (
        28.0,
        1,
        29.0,
        30.0,
    )
    assert (peak.least, peak.most, peak.rank_of_maximum) == (1.0, 3.0, 1)
    (slow,) = find_slow_ranks(records, ["catlip-tiny"])
    assert (slow.rank, slow.host, slow.factor) == (1, "b, H100", pytest.approx(13 / 11))
    # Its forwards wait for others.
    assert not find_slow_ranks([record(of_two(0), sharding="fsdp2")], ["catlip-tiny"])
    assert not rank_table([record(speed())], ["catlip-tiny"]).rows
    windows, figures = ((2.0, 2.0),) * 3, {"image forward, ms": (1.0, 2.0, 3.0)}
    other = speed(round=3, rank_window_seconds=windows, rank_figures=figures, rank_hosts=("a",) * 3)
    assert rank_table([*records, record(other)], ["catlip-tiny"]) == rank_table(
        records, ["catlip-tiny"]
    )


def test_figures_that_a_rank_lacks_are_refused() -> None:
    with pytest.raises(ValueError, match="must be of all 2 ranks"):
        speed(
            rank_window_seconds=((2.0, 2.0),) * 2,
            rank_figures={"data, ms": (1.0,)},
            rank_hosts=("a", "b"),
        )
    with pytest.raises(ValueError, match="must be of all 2 ranks"):
        speed(rank_window_seconds=((2.0, 2.0),) * 2, rank_figures={"data, ms": (1.0, 2.0)})


def measured_with_slow_rank(rank: int, _ranks: int, results: Path) -> tuple[list[Speed], Memory]:
    """Measure, the forwards of rank 1 being longer than any that a busy machine makes longer."""

    def build(stream: Any) -> Any:
        run = build_train_state(stream)
        if rank == 1:
            run.tower.register_forward_hook(lambda *_: time.sleep(0.5))
        return run

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(speed_module, "build_train_state", build)
        timed = [
            measure_speed(small("catlip"), CPU, results, number)
            for number in range(RUNS_FOR_SLOW_RANK)
        ]
    return timed, measure_memory(small("catlip"), CPU, results)


def test_planted_slow_rank_is_named_in_the_table_and_on_the_page(
    results: Path, tmp_path: Path
) -> None:
    (runs, memory), (of_other_rank, _) = in_ranks(measured_with_slow_rank, 2, tmp_path, results)
    timed = runs[0]
    assert timed.rank_figures == of_other_rank[0].rank_figures
    assert {
        "data, ms",
        "image forward, ms",
        "backward, ms",
        WAIT_FIGURE,
        "process CPU busy percent",
    } <= timed.rank_figures.keys()
    assert 0 <= timed.utilisation[OTHERS_BUSY] < 100
    assert OTHERS_BUSY not in timed.rank_figures
    assert timed.rank_hosts == (platform.node(),) * 2
    assert len(memory.rank_peak_bytes) == 2
    assert max(memory.rank_peak_bytes) == memory.peak_rss_bytes
    records = [*map(record, runs), record(memory)]
    sentence = f"Rank 1 ({platform.node()}) is slow: its data, augmentation and forwards take"
    table = rank_table(records, ["catlip-tiny"])
    assert sentence in table.note
    (forward,) = [row for row in table.rows if row["figure"] == "image forward, ms"]
    assert forward["rank of max"] == 1
    assert forward["max"] > 500
    shown = page("two ranks", records)
    assert sentence in shown
    assert "Spread over the ranks" in shown


def test_processes_of_no_rank_are_the_others_of_a_host() -> None:
    """Two ranks that take 30 % of a host each leave 10 % of its 70 % to others; on the second host there are none."""
    ranks = [("a", {OWN_BUSY: 30.0, OTHERS_BUSY: 40.0})] * 2 + [
        ("b", {OWN_BUSY: 99.0, OTHERS_BUSY: 0.5})
    ]
    assert max_other_cpu_percent(ranks) == pytest.approx(10)
    assert max_other_cpu_percent(ranks[2:]) == pytest.approx(0.5)
    assert max_other_cpu_percent([("a", {OWN_BUSY: 50.0, OTHERS_BUSY: 49.0})] * 2) == 0.0


def compared(rank: int, _ranks: int) -> list[str]:
    """Return the errors for ranks whose machines or packages differ, where that is allowed and where not."""
    errors = []
    for machine, packages, allowed in (
        ("m", "1", ""),
        (f"m{rank}", "1", ""),
        (f"m{rank}", "1", "1"),
        ("m", str(rank), "1"),
    ):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(MIXED_MACHINES, allowed)
            try:
                require_equal_nodes(machine, {"torch": packages})
                errors.append("")
            except ValueError as error:
                errors.append(str(error))
    return errors


def test_ranks_on_different_machines_are_refused_unless_allowed(tmp_path: Path) -> None:
    for errors in in_ranks(compared, 2, tmp_path):
        equal, mixed, allowed, packages = errors
        assert (equal, allowed) == ("", "")
        assert mixed.startswith("rank 1 runs on m1, and rank 0 on m0: ")
        assert f"{MIXED_MACHINES}=1 allows it" in mixed
        assert (
            packages
            == "rank 1 has other packages than rank 0 (torch 1, not 0): install equal ones on all nodes"
        )
    require_equal_nodes("m", {})  # of one process
