"""A plan is one device's step, and no worse than its links."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace as with_fields

from bench.__main__ import main
from bench.environment.gpu_specs import GPU_SPECS
from bench.experiment.config import Experiment, change
from bench.experiment.experiments import EXPERIMENTS
from bench.experiment.settings import renamed_with_settings
from bench.features.plan.collectives import ParameterCounts
from bench.features.plan.interconnect import (
    Interconnect,
)
from bench.features.plan.model import (
    OVERLAP,
    ForwardFlopsPerPair,
    GpuComputeProfile,
    PlanInputs,
    compute_profile_from_flops,
    predict_step_seconds,
)
from bench.features.plan.records import (
    TimedRunsOnOneDevice,
    compute_profile_from_runs,
    estimate_max_batch_per_gpu,
    find_runs_of_nearest_batch,
)
from bench.measure.timed_run import TimedRun
from bench.records.record import (
    Memory,
    Record,
    Speed,
    record_path,
    write_record,
)
from tests.small import circumstances
from tests.speeds import speed as plain_speed

INFINITE = Interconnect(8, math.inf, math.inf)
METHODS = ("clip", "siglip", "superclip", "catlip", "superclass", "distill")


def weights(method: Any) -> ParameterCounts:
    width = 512 if method in ("clip", "siglip", "superclip") else 0
    tokens = 49_408 if method in ("superclass", "superclip") else 0
    return ParameterCounts(method, 10**8, 0, 8 * 10**7, 12, 0, 1, width, tokens)


def case(method: str = "clip", **changes: Any) -> PlanInputs:
    return replace(
        PlanInputs(
            method, weights(method), GpuComputeProfile(1e-5, 1e-4, 2e-4, 0.01, 4096.0, 1e13), 256.0
        ),
        **changes,
    )


cases = st.builds(
    case,
    st.sampled_from(METHODS),
    images_per_gpu=st.floats(1, 4096),
    sharding=st.sampled_from(["ddp", "fsdp2_no_reshard", "fsdp2"]),
    bytes_per_parameter=st.sampled_from([2, 4]),
)
interconnects = st.builds(
    Interconnect,
    st.integers(1, 16),
    st.floats(1e8, 1e12),
    st.floats(1e8, 1e12),
)


# Steps


@given(cases, interconnects)
def test_one_device_sends_nothing(case: PlanInputs, links: Interconnect) -> None:
    step = predict_step_seconds(case, links, 1)
    compute = case.compute
    assert (
        step.communication_seconds
        == step.hidden_communication_seconds
        == step.extra_negatives_seconds
        == 0
    )
    separate = (
        case.images_per_gpu
        * (compute.data_seconds + compute.forward_seconds + compute.backward_seconds)
        + compute.optimizer_seconds
    )
    assert step.seconds == pytest.approx(separate)


@given(cases, interconnects, st.integers(2, 4096))
def test_better_links_never_take_longer(case: PlanInputs, links: Interconnect, gpus: int) -> None:
    step = predict_step_seconds(case, links, gpus)
    better = replace(
        links,
        link_bytes_per_second=2 * links.link_bytes_per_second,
        network_bytes_per_second=2 * links.network_bytes_per_second,
    )
    assert predict_step_seconds(case, better, gpus).seconds <= step.seconds * (1 + 1e-12)
    most_hidden = min(
        step.communication_seconds, OVERLAP * (step.forward_seconds + step.backward_seconds)
    )
    assert 0 <= step.hidden_communication_seconds <= most_hidden * (1 + 1e-12)


@given(cases, st.integers(0, 8))
def test_a_global_batch_is_split_evenly_but_for_communication(case: PlanInputs, power: int) -> None:
    """The products of a loss too; but the optimizer takes its time on each."""
    gpus = 2**power
    free = replace(
        case, images_per_gpu=65_536.0, compute=replace(case.compute, optimizer_seconds=0.0)
    )
    step = predict_step_seconds(
        replace(free, images_per_gpu=free.images_per_gpu / gpus), INFINITE, gpus
    )
    assert step.num_images == free.images_per_gpu
    seconds = step.seconds - step.exposed_communication_seconds
    assert seconds * gpus == pytest.approx(predict_step_seconds(free, INFINITE, 1).seconds)


def test_every_image_caption_pair_is_counted_once() -> None:
    """4 products of 2 x rows x columns x width, on 4 devices of 10 images each: 10 x 30 pairs a device are further."""
    compute = replace(case().compute, num_captions=10.0)
    step = predict_step_seconds(case("clip", images_per_gpu=10.0, compute=compute), INFINITE, 4)
    assert step.extra_negatives_seconds == pytest.approx(4 * 2 * 10 * 30 * 512 / 1e13)
    siglip, catlip = (
        predict_step_seconds(case(name, images_per_gpu=10.0, compute=compute), INFINITE, 4)
        for name in ("siglip", "catlip")
    )
    assert siglip.extra_negatives_seconds == pytest.approx(3 / 4 * step.extra_negatives_seconds)
    assert catlip.extra_negatives_seconds == 0


# An assumed utilisation


def test_assumed_step_has_its_assumed_utilisation() -> None:
    h100, work = GPU_SPECS["h100"], ForwardFlopsPerPair(forward=41e9)
    compute = compute_profile_from_flops(work, h100, 0.25, "fp32")
    assert 3 * 41e9 / (compute.forward_seconds + compute.backward_seconds) == pytest.approx(
        0.25 * 989.4e12
    )
    again = compute_profile_from_flops(replace(work, is_recomputed=True), h100, 0.25, "fp32")
    assert again.forward_seconds + again.backward_seconds == pytest.approx(
        4 / 3 * (compute.forward_seconds + compute.backward_seconds)
    )


# Records

HERE = circumstances(machine="Example CPU")
PHASES = {
    "data": (0.001, 0.003),
    "image forward": (0.02, 0.02),
    "head and loss": (0.01, 0.01),
    "backward": (0.05, 0.05),
    "optimizer": (0.01, 0.01),
}


def speed(**changes: Any) -> Speed:
    timed = {"window_seconds": (0.8, 0.8), "phase_seconds": PHASES, "peak_flops_per_second": 1e11}
    return plain_speed(**timed | changes)


def record(experiment: Experiment, measured: Any, **where: Any) -> Record:
    return Record(
        comparison="20261125T000000-measure",
        experiment=experiment,
        circumstances=with_fields(HERE, **where),
        measured=measured,
    )


def written(folder: Path, *records: Record) -> Path:
    for number, one in enumerate(records):
        kind = type(one.measured).__struct_config__.tag
        write_record(one, record_path(folder, one.comparison, str(kind), number))
    return folder


CLIP, CATLIP = EXPERIMENTS["clip-tiny"], EXPERIMENTS["catlip-tiny"]


@given(
    st.lists(st.floats(0.01, 10), min_size=2, max_size=2),
    st.fixed_dictionaries(dict.fromkeys([*PHASES, "text forward"], st.floats(1e-3, 1))),
)
def test_parts_of_a_step_sum_to_the_window_time(
    windows: list[float], phases: dict[str, float]
) -> None:
    run = speed(
        window_seconds=tuple(windows),
        phase_seconds={name: (value,) for name, value in phases.items()},
    )
    compute = compute_profile_from_runs(TimedRunsOnOneDevice(CLIP, HERE, [run]), 1.0)
    step = (
        CLIP.training.batch_size
        * (compute.data_seconds + compute.forward_seconds + compute.backward_seconds)
        + compute.optimizer_seconds
    )
    assert step == pytest.approx(
        CLIP.training.batch_size / TimedRun(CLIP, run).images_per_second_preferably_undisturbed()
    )
    assert compute.backward_seconds * CLIP.training.batch_size / step == pytest.approx(
        phases["backward"] / sum(phases.values())
    )


def test_plan_is_from_runs_of_one_batch_size_alone() -> None:
    """Also where two recorded batch sizes are equally near."""
    records = [record(change(CLIP, batch_size=size), speed()) for size in (32, 64, 64)]
    timed = find_runs_of_nearest_batch(change(CLIP, batch_size=48), records)
    assert len(timed.runs) == [32, 64, 64].count(timed.experiment.training.batch_size)


def test_largest_batch_is_extrapolated_from_counted_tensors() -> None:
    """Of 4 GB, 1.6 GB are 16 bytes per parameter, and the rest is of 128 images."""
    fields = dict.fromkeys(("peak_rss_bytes", "peak_allocated_bytes", "peak_reserved_bytes"))
    memory = Memory(steps=4, trained_parameters=10**8, peak_tensor_bytes=4 * 10**9, **fields)
    records = [record(renamed_with_settings(CLIP, ["batch_size=128"]), memory)]
    catlip = weights("catlip")
    assert estimate_max_batch_per_gpu(CLIP, [], 1e10, catlip, 1) is None
    largest = estimate_max_batch_per_gpu(CLIP, records, 1e10, catlip, 64)
    assert largest == 448
    sharded = change(CLIP, sharding="fsdp2")
    assert estimate_max_batch_per_gpu(sharded, records, 1e10, catlip, 2) == int(
        9.2e9 / (2.4e9 / 128)
    )
    kept = estimate_max_batch_per_gpu(
        change(CLIP, sharding="fsdp2_no_reshard"), records, 1e10, catlip, 2
    )
    assert kept == int((9.2e9 - 4 * catlip.trained_in_blocks) / (2.4e9 / 128))
    gathering = estimate_max_batch_per_gpu(CLIP, records, 1e10, weights("clip"), 1001)
    assert gathering == int(8.4e9 / (2.4e9 / 128 + 2 * 4 * 512 * 1000))


def figures(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(path.read_text())
    return document


H100 = {"device": "cuda", "machine": "NVIDIA H100 80GB HBM3; Example", "precision": "bf16"}


def test_a_plan_of_one_device_is_what_was_recorded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    slower = record(CATLIP, speed(window_seconds=(0.4, 0.4)), **H100)
    folder = written(tmp_path, record(CLIP, speed(), **H100), slower)
    out = tmp_path / "plan.out"
    words = ["plan", "clip-tiny", "catlip-tiny", "--records", str(folder), "--gpus", "1"]
    assert (
        main([*words, "--price-per-hour", "2.5", "--images-seen", "0.36M", "--json", str(out)]) == 0
    )
    clip, catlip = figures(out)["Plan for 1 GPUs"]["rows"]
    rate = TimedRun(CLIP, speed()).images_per_second_preferably_undisturbed()
    assert clip["images/s"] == pytest.approx(rate)
    assert catlip["images/s, times clip-tiny's"] == pytest.approx(2)
    assert clip["GPU-hours"] == pytest.approx(100 / rate)
    assert clip["price"] == pytest.approx(2.5 * clip["GPU-hours"])
    printed = capsys.readouterr().out
    assert "not a measurement" not in printed
    assert "measured" in printed


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ("", "name the experiments"),
        ("clip-tiny --assumed-gpu h100 --records RECORDS", "give one"),
        ("clip-tiny --assumed-gpu h10", "no device named 'h10'; did you mean 'h100'?"),
        ("clip-tiny --records OF_CPUS", "a plan needs a GPU of a known data sheet, got GeForce GT"),
        ("siglip-tiny --records RECORDS", "no comparison of `measure` that timed siglip-tiny"),
        ("clip-tiny --records TOGETHER", "a plan needs records of one process"),
        ("clip-tiny --assumed-gpu l40s", "give --internode-gbs-per-gpu"),
    ],
)
def test_bad_input_is_refused_with_the_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: str, text: str
) -> None:
    several = speed(rank_window_seconds=((0.8, 0.8), (0.8, 0.8)))
    folders = {
        "RECORDS": written(_made(tmp_path / "records"), record(CLIP, speed(), **H100)),
        "TOGETHER": written(_made(tmp_path / "together"), record(CLIP, several, processes=2)),
        "OF_CPUS": written(
            _made(tmp_path / "cpus"),
            record(CLIP, speed(), device="cuda", machine="GeForce GT 710; Xeon H100"),
        ),
    }
    words = [str(folders.get(word, word)) for word in arguments.split()]
    assert main(["plan", *words]) == 2
    error = capsys.readouterr().err
    assert text in error
    assert error.count("\n") == 1


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder
