"""A plan is one device's step, and no worse than its links."""

import json
import math
from dataclasses import astuple, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace as with_fields

from bench.__main__ import main
from bench.environment.gpu_specs import GPU_SPECS, find_gpu_spec
from bench.experiment.config import Experiment, change
from bench.experiment.experiments import EXPERIMENTS
from bench.experiment.settings import with_batch_size
from bench.features.plan.collectives import Interconnect, ParameterCounts
from bench.features.plan.interconnect import LINK_OPTIONS, measured_links
from bench.features.plan.model import (
    Cluster,
    ComputeProfile,
    FlopsPerImage,
    PlanCase,
    compute_profile_from_flops,
    plan_step,
    scaling_curve,
    training_cost,
)
from bench.features.plan.records import TimedRuns, estimate_max_batch, measured_compute
from bench.measure.throughput import images_per_second
from bench.records.record import (
    BatchTrial,
    LinkSpeed,
    Memory,
    Record,
    Speed,
    record_path,
    write_record,
)
from tests.small import circumstances
from tests.speeds import speed as plain_speed

INFINITE = Cluster(Interconnect(8, math.inf, 0.0, math.inf, 0.0), overlap=0.0)
ORDINARY = Cluster(Interconnect(8, 300e9, 2e-6, 20e9, 4e-6), overlap=0.5)
METHODS = ("clip", "siglip", "superclip", "catlip", "superclass", "distill")


def weights(method: Any) -> ParameterCounts:
    meets = method in ("clip", "siglip", "superclip")
    return ParameterCounts(
        method,
        10**8,
        0,
        8 * 10**7,
        12,
        0,
        1,
        512 * meets,
        49_408 * (method in ("superclass", "superclip")),
    )


def case(method: str = "clip", **changes: Any) -> PlanCase:
    return replace(
        PlanCase(
            method, weights(method), ComputeProfile(1e-5, 1e-4, 2e-4, 0.01, 4096.0, 1e13), 256.0
        ),
        **changes,
    )


cases = st.builds(
    case,
    st.sampled_from(METHODS),
    batch=st.floats(1, 4096),
    sharding=st.sampled_from(["ddp", "zero2", "fsdp2"]),
    bytes_per_parameter=st.sampled_from([2, 4]),
)
clusters = st.builds(
    Cluster,
    st.builds(
        Interconnect,
        st.integers(1, 16),
        st.floats(1e8, 1e12),
        st.floats(0, 1e-3),
        st.floats(1e8, 1e12),
        st.floats(0, 1e-3),
    ),
    st.floats(0, 1),
)


# Steps


@given(cases, clusters)
def test_one_device_sends_nothing(one: PlanCase, cluster: Cluster) -> None:
    step, compute = plan_step(one, cluster, 1), one.compute
    assert step.comm_seconds == step.hidden_seconds == step.extra_negatives_seconds == 0
    separate = one.batch * (compute.data + compute.forward + compute.backward) + compute.optimizer
    assert step.seconds == pytest.approx(separate)


@given(cases, clusters, st.integers(2, 4096))
def test_better_links_or_more_overlap_never_take_longer(
    one: PlanCase, cluster: Cluster, gpus: int
) -> None:
    joined, step = cluster.links, plan_step(one, cluster, gpus)
    better = Interconnect(
        joined.gpus_per_node,
        2 * joined.link_bytes_per_second,
        joined.link_latency_seconds,
        2 * joined.network_bytes_per_second,
        joined.network_latency_seconds,
    )
    limit = step.seconds * (1 + 1e-12)
    assert plan_step(one, replace(cluster, links=better), gpus).seconds <= limit
    assert plan_step(one, replace(cluster, overlap=1.0), gpus).seconds <= limit
    assert (
        0
        <= step.hidden_seconds
        <= min(step.comm_seconds, cluster.overlap * (step.forward + step.backward)) * (1 + 1e-12)
    )
    assert plan_step(one, replace(cluster, overlap=0.0), gpus).hidden_seconds == 0


@given(cases, st.integers(0, 8))
def test_free_communication_splits_a_global_batch_evenly(one: PlanCase, power: int) -> None:
    """The products of a loss too; but the optimizer takes its time on each."""
    gpus, batch = 2**power, 65_536
    free = replace(one, compute=replace(one.compute, optimizer=0.0))
    separate, step = plan_step(free, INFINITE, 1, batch), plan_step(free, INFINITE, gpus, batch)
    assert step.images == batch
    assert step.seconds * gpus == pytest.approx(separate.seconds)


def test_every_image_caption_pair_is_counted_once() -> None:
    """4 products of 2 x rows x columns x width, on 4 devices of 10 images each: 10 x 30 pairs a device are further."""
    compute = replace(case().compute, captions=10.0)
    step = plan_step(case("clip", batch=10.0, compute=compute), INFINITE, 4)
    assert step.extra_negatives_seconds == pytest.approx(4 * 2 * 10 * 30 * 512 / 1e13)
    siglip, catlip = (
        plan_step(case(name, batch=10.0, compute=compute), INFINITE, 4)
        for name in ("siglip", "catlip")
    )
    assert siglip.extra_negatives_seconds == pytest.approx(3 / 4 * step.extra_negatives_seconds)
    assert catlip.extra_negatives_seconds == 0


@pytest.mark.parametrize("gpus", [2, 64, 1024])
def test_a_classifier_never_waits_longer_than_the_contrastive_pair_of_its_size(gpus: int) -> None:
    assert (
        plan_step(case("catlip"), ORDINARY, gpus).exposed_seconds
        < plan_step(case("clip"), ORDINARY, gpus).exposed_seconds
    )


def test_sharded_optimizer_time_is_divided_by_the_ranks() -> None:
    assert plan_step(case("catlip", sharding="fsdp2"), INFINITE, 4).optimizer == pytest.approx(
        0.01 / 4
    )


def test_scaling_curve_doubles_and_includes_the_requested_gpus() -> None:
    numbers = [step.gpus for step in scaling_curve(case(), ORDINARY, 48)]
    assert numbers == sorted({48, *(2**power for power in range(13))})
    assert [step.gpus for step in scaling_curve(case(), ORDINARY, 16, 64)] == [
        1,
        2,
        4,
        8,
        16,
        32,
        64,
    ]


def test_training_cost_has_the_right_units() -> None:
    """2 devices at 1,000 images/s together: 3.6 million images are an hour, two GPU-hours, a kWh at 500 W."""
    step = plan_step(
        PlanCase("x", weights("catlip"), ComputeProfile(0.0, 1e-3, 1e-3, 0.0, 0.0, 1.0), 10.0),
        INFINITE,
        2,
    )
    cost = training_cost(step, 3_600_000, price=2.5, watts=500.0)
    assert astuple(cost) == pytest.approx((1.0, 2.0, 5.0, 1.0))
    assert training_cost(step, 1, None, None).price is None
    assert training_cost(step, 1, None, None).kwh is None


# An assumed utilisation


def test_assumed_step_has_its_assumed_utilisation() -> None:
    h100, work = GPU_SPECS["h100"], FlopsPerImage(forward=41e9)
    compute = compute_profile_from_flops(work, h100, 0.25, "fp32")
    assert 3 * 41e9 / (compute.forward + compute.backward) == pytest.approx(0.25 * 989.4e12)
    again = compute_profile_from_flops(replace(work, is_recomputed=True), h100, 0.25, "fp32")
    assert again.forward + again.backward == pytest.approx(
        4 / 3 * (compute.forward + compute.backward)
    )


def test_contrastive_loss_in_autocast_has_the_peak_of_half_precision() -> None:
    work, seconds = FlopsPerImage(forward=41e9), []
    for precision in ("fp32", "autocast"):
        compute = compute_profile_from_flops(work, GPU_SPECS["a100"], 0.15, precision)
        seconds.append(plan_step(case(compute=compute), ORDINARY, 256).extra_negatives_seconds)
    assert seconds[0] / seconds[1] == pytest.approx(312 / 19.5)


def test_every_gpu_is_found_by_its_name() -> None:
    assert all(
        find_gpu_spec(f"NVIDIA {device.name_words}") == device for device in GPU_SPECS.values()
    )
    assert find_gpu_spec("NVIDIA GeForce GT 710") is None


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


def link(**changes: Any) -> Record:
    """What `doctor` leaves of a job of 3 nodes of 4 H100."""
    measured = LinkSpeed(
        backend="nccl",
        message_bytes=1 << 20,
        bytes_per_second=2e11,
        latency_seconds=3e-6,
        network_bytes_per_second=1e10,
        network_latency_seconds=2e-5,
        processes_per_node=4,
    )
    machine = "NVIDIA H100 80GB HBM3; a CPU, 2 TiB"
    where = with_fields(HERE, machine=machine, device="cuda", processes=12)
    return Record(
        comparison="20261125T000000-link",
        experiment=None,
        circumstances=where,
        measured=with_fields(measured, **changes),
    )


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
    compute = measured_compute(TimedRuns(CLIP, HERE, [run]), 1.0)
    step = (
        CLIP.training.batch_size * (compute.data + compute.forward + compute.backward)
        + compute.optimizer
    )
    assert step == pytest.approx(CLIP.training.batch_size / images_per_second(CLIP, run))
    assert compute.backward * CLIP.training.batch_size / step == pytest.approx(
        phases["backward"] / sum(phases.values())
    )


def test_largest_batch_is_the_tried_one_or_extrapolated() -> None:
    def memory(batch: int, size: int) -> Record:
        fields = dict.fromkeys(("peak_rss_bytes", "peak_allocated_bytes", "peak_reserved_bytes"))
        one = Memory(steps=4, trained_parameters=10**8, peak_tensor_bytes=size, **fields)
        return record(with_batch_size(CLIP, batch), one)

    of, sent = CLIP, weights("catlip")
    assert estimate_max_batch(of, [], 1e10, sent, 1, 8)[0] is None
    one, two = memory(128, 4 * 10**9), memory(256, 6 * 10**9)
    assert estimate_max_batch(of, [one, two], 1e10, sent, 64, 8)[0] == 512
    sharded = estimate_max_batch(change(of, sharding="fsdp2"), [one, two], 1e10, sent, 2, 8)[0]
    assert sharded == 576  # half of the 2 GB that do not grow
    kept = estimate_max_batch(change(of, sharding="zero2"), [one, two], 1e10, sent, 2, 8)[0]
    assert kept == int((9e9 - 4 * sent.in_blocks) / (2e9 / 128))
    gathering = estimate_max_batch(of, [one, two], 1e10, weights("clip"), 1001, 8)[0]
    assert gathering == int(8e9 / (2e9 / 128 + 2 * 4 * 512 * 1000))
    fits = [
        record(with_batch_size(CLIP, b), BatchTrial(limit_bytes=10**9, fits=b < 300))
        for b in (200, 288, 304)
    ]
    assert estimate_max_batch(of, [one, two, *fits], 1e10, sent, 64, 8)[0] == 288


def figures(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(path.read_text())
    return document


LINKS = ["--per-node", "8", "--link-gbs", "300", "--network-gbs", "20"]


@pytest.mark.parametrize(
    ("machine", "is_known"), [("NVIDIA H100; Xeon", True), ("GeForce GT 710; Xeon H100", False)]
)
def test_the_gpu_of_a_record_is_named_by_its_device_alone(
    tmp_path: Path, machine: str, is_known: bool
) -> None:
    folder = written(tmp_path, record(CLIP, speed(), device="cuda", machine=machine))
    assert main(["plan", "clip-tiny", "--record", str(folder), "--gpus", "1"]) == (
        0 if is_known else 2
    )


def test_a_plan_of_one_device_is_what_was_recorded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Table and JSON agree; a record's file and its folder are the same."""
    slower = record(CATLIP, speed(window_seconds=(0.4, 0.4)))
    folder = written(tmp_path, record(CLIP, speed()), slower)
    for where in (folder, next(folder.glob("*.json"))):
        out = tmp_path / "plan.out"
        arguments = [
            "plan",
            "clip-tiny",
            "catlip-tiny",
            "--record",
            str(where),
            "--gpus",
            "1",
            *LINKS,
        ]
        assert main([*arguments, "--price", "2.5", "--images", "0.36M", "--json", str(out)]) == 0
        clip, catlip = figures(out)["Plan for 1 GPUs"]["rows"]
        rate = images_per_second(CLIP, speed())
        assert clip["images/s"] == pytest.approx(rate)
        assert catlip["images/s, times clip-tiny's"] == pytest.approx(2)
        assert (
            clip["price"]
            == pytest.approx(2.5 * clip["GPU-hours"])
            == pytest.approx(2.5 * 100 / rate)
        )
        assert clip["kWh of the GPUs"] is None
        printed = capsys.readouterr().out
        assert "not a measurement" not in printed
        assert "measured" in printed


def test_an_assumed_plan_says_so_and_grows_to_4096(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "plan.json"
    assert main(["plan", "clip-tiny", "siglip-tiny", "--device", "h100", "--json", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "it is not a measurement" in printed
    assert "Assumptions" in printed
    curves = figures(out)["As GPUs grow"]["rows"]
    assert [row["GPUs"] for row in curves] == 2 * [2**power for power in range(13)]
    assert "26 published trainings" in printed


def test_power_is_what_was_measured_where_it_was(tmp_path: Path) -> None:
    gpu = {"device": "cuda", "machine": "NVIDIA H100 80GB HBM3; Example", "precision": "bf16"}
    run = speed(utilisation={"power W, by the energy counter": 500.0})
    out = tmp_path / "plan.out"
    folder = written(tmp_path, record(CLIP, run, **gpu))
    assert main(["plan", "clip-tiny", "--record", str(folder), "--json", str(out)]) == 0
    row = figures(out)["Plan for 64 GPUs"]["rows"][0]
    assert row["kWh of the GPUs"] == pytest.approx(0.5 * row["GPU-hours"])


def test_options_replace_measured_links_and_these_the_data_sheet(tmp_path: Path) -> None:
    of_one_node = link(network_bytes_per_second=None, network_latency_seconds=None)
    folder = written(_made(tmp_path / "links"), link(bytes_per_second=1.0), of_one_node)
    options = ["--links", str(folder), "--link-us", "7", "--json", str(tmp_path / "plan.json")]
    assert main(["plan", "clip-tiny", "--device", "h100", *options]) == 0
    found = {
        row["assumption"]: row for row in figures(tmp_path / "plan.json")["Assumptions"]["rows"]
    }
    assert {
        name: (found[name]["value"].split()[0], found[name]["from"].split()[0])
        for name, _ in LINK_OPTIONS.values()
    } == {
        "GPUs per node": ("4", "measured:"),
        "links within a node": ("200", "measured:"),
        "links within a node, latency": ("7", "given"),
        "network": ("40", "80%"),
        "network, latency": ("4", "NCCL's"),
    }
    assert measured_links(
        written(_made(tmp_path / "nodes"), link()), GPU_SPECS["h100"]
    ) == pytest.approx(
        {"per_node": 4, "link_gbs": 200, "link_us": 3, "network_gbs": 10, "network_us": 20}
    )


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ([], "name the experiments"),
        (["clip-tiny"], "give one"),
        (["clip-tiny", "--device", "h100", "--record", "RECORDS"], "give one"),
        (["clip-tiny", "--device", "h10"], "no device named 'h10'; did you mean 'h100'?"),
        (["clip-tiny", "--device", "l40s"], "give --links or --network-gbs"),
        (
            ["clip-tiny", "--record", "RECORDS"],
            "give --links or --per-node, --link-gbs, --network-gbs",
        ),
        (["clip-tin", "--device", "h100"], "did you mean 'clip-tiny'?"),
        (
            ["siglip-tiny", "--record", "RECORDS", *LINKS],
            "no speed record of siglip-tiny: it has clip-tiny",
        ),
        (["siglip-tiny", "--record", "RECORDS", *LINKS], "differs in method: siglip / clip"),
        (
            ["clip-tiny", "--record", "EMPTY", *LINKS],
            "holds no speed record; python -m bench measure",
        ),
        (["clip-tiny", "--record", "EMPTY/none", *LINKS], "holds no speed record"),
        (
            ["clip-tiny", "--record", "TOGETHER", *LINKS],
            "was timed on 2 processes; a plan needs records of one",
        ),
        (
            ["clip-tiny", "--device", "h100", "--gpus", "0"],
            "--gpus must be from 1e-09 to 1e+12, got 0",
        ),
        (["clip-tiny", "--device", "h100", "--price", "nan"], "--price must be from 1e-09"),
        (
            ["clip-tiny", "--device", "h100", "--batch", "32"],
            "at least one image for each of 64 GPUs, got 32",
        ),
        (
            ["clip-tiny", "--device", "h100", "--overlap", "2"],
            "--overlap must be from 0 to 1, got 2",
        ),
        (
            ["clip-tiny", "--device", "h100", "--utilisation", "40"],
            "--utilisation must be from 1e-09 to 1, got 40",
        ),
        (
            ["clip-tiny", "--device", "h100", "--link-gbs", "0"],
            "--link-gbs must be from 1e-09 to 1e+12, got 0",
        ),
        (
            ["clip-tiny", "--device", "h100", "--network-us", "0"],
            "--network-us must be from 1e-09 to 1e+12, got 0",
        ),
        (
            ["clip-tiny", "--device", "h100", "--per-node", "0"],
            "--per-node must be from 1e-09 to 1e+12, got 0",
        ),
        (
            ["clip-tiny", "--device", "h100", "--images", "12B8"],
            "--images must be 1 to 1,000,000,000,000",
        ),
        (["clip-tiny", "--device", "h100", "--links", "EMPTY"], "holds no link record; torchrun"),
        (
            ["clip-tiny", "--device", "h100", "--links", "OF_CPUS"],
            "are those of Example CPU, and the plan is for H100",
        ),
    ],
)
def test_bad_input_is_refused_with_the_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], text: str
) -> None:
    several = speed(rank_window_seconds=((0.8, 0.8), (0.8, 0.8)))
    places = {
        "RECORDS": written(_made(tmp_path / "records"), record(CLIP, speed())),
        "TOGETHER": written(_made(tmp_path / "together"), record(CLIP, several, processes=2)),
        "EMPTY": _made(tmp_path / "empty"),
        "OF_CPUS": written(_made(tmp_path / "links"), with_fields(link(), circumstances=HERE)),
        "EMPTY/none": tmp_path / "empty" / "none",
    }
    assert main(["plan", *(str(places.get(argument, argument)) for argument in arguments)]) == 2
    error = capsys.readouterr().err
    assert text in error
    assert error.count("\n") == 1


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder
