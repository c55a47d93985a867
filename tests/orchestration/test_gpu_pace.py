"""What verbs expect on a GPU lies between a plain roofline and three times as much, on every large card."""

import subprocess
import sys
from dataclasses import replace as changed

import pynvml
import pytest

from bench.cli.doctor import Doctor
from bench.environment.gpu_specs import GPU_SPECS, GpuSpec
from bench.experiment.config import Experiment, change
from bench.experiment.experiments import EXPERIMENTS
from bench.experiment.published import NEMO, PUBLISHED_RUNS
from bench.orchestration import preflight
from bench.orchestration.pace import COMPILED_SHARE, EAGER_SHARE, TWO_CORES, GpuPace
from bench.orchestration.preflight import machine_pace
from bench.orchestration.trial import expected_trial_seconds

LARGE = {name: spec for name, spec in GPU_SPECS.items() if spec.memory_bytes >= 40e9}
# Layers, width and tokens of image towers; seconds and shares that real runs exceed.
TOWERS = {
    "ViT-B-32": (12, 768, 50),
    "ViT-B-16": (12, 768, 197),
    "ViT-L-14": (24, 1024, 257),
    "catlip-bench-tiny": (4, 128, 17),
}
START, COMPILED, FIRST_COMPILED, HEATING, SHARE, FP32_SHARE = 8.0, 5.0, 20.0, 20.0, 0.25, 0.5


def step_seconds(experiment: Experiment, gpu: GpuSpec) -> float:
    layers, width, tokens = TOWERS[experiment.image.tower]
    flops = 3 * experiment.training.batch_size * layers * (24 * tokens * width**2 + 4 * tokens**2 * width)
    if experiment.runtime.precision == "fp32":
        return flops / (FP32_SHARE * gpu.fp32_flops)
    return flops / (SHARE * gpu.bf16_flops)


def run_seconds(experiment: Experiment, gpu: GpuSpec, *, is_first: bool = False) -> float:
    compiled = 0.0 if experiment.runtime.compile == "off" else FIRST_COMPILED if is_first else COMPILED
    steps = experiment.timing.warmup_steps + (experiment.timing.windows + 1) * experiment.timing.steps_per_window
    return START + compiled + HEATING + steps * step_seconds(experiment, gpu)


def test_published_trainings_reach_more_than_the_share_that_is_expected() -> None:
    alone = [one.mfu for one in PUBLISHED_RUNS if one.gpus == 1]
    fused = [one.mfu for one in PUBLISHED_RUNS if one.source == NEMO and one.gpus == 8]
    assert alone
    assert fused
    assert min(alone) > EAGER_SHARE
    assert min(fused) > COMPILED_SHARE


@pytest.mark.parametrize("method", ["clip", "catlip"])
def test_run_of_vit_b16_on_an_h100_is_expected_to_take_about_a_minute(method: str) -> None:
    assert 45 <= GpuPace(gpu=GPU_SPECS["h100"]).speed_run_seconds(EXPERIMENTS[f"{method}-vit-b16"]) <= 110


@pytest.mark.parametrize(
    ("precision", "field"), [("fp32", "fp32_flops"), ("bf16", "bf16_flops"), ("auto", "bf16_flops")]
)
def test_steps_are_priced_at_the_peak_of_their_precision(precision: str, field: str) -> None:
    experiment, gpu = change(EXPERIMENTS["clip-vit-b16"], precision=precision), GPU_SPECS["h100"]
    for name in ("fp32_flops", "bf16_flops"):
        slower = changed(gpu, **{name: getattr(gpu, name) / 2})
        paces = GpuPace(gpu=gpu), GpuPace(gpu=slower)
        fixed = paces[0].fixed_step_seconds
        before, after = (pace.step_seconds(experiment) - fixed for pace in paces)
        assert after == pytest.approx((2 if name == field else 1) * before)


def test_larger_work_is_never_expected_to_be_faster() -> None:
    pace = GpuPace(gpu=GPU_SPECS["a100"])
    base = EXPERIMENTS["clip-vit-b16"]
    more = [
        change(base, batch_size=512),
        change(base, activation_checkpointing=True),
        change(base, compile="off"),
        change(base, precision="fp32"),
        EXPERIMENTS["clip-vit-l14"],
    ]
    assert all(pace.step_seconds(one) > pace.step_seconds(base) for one in more[:4])
    assert pace.step_seconds(more[4]) / more[4].training.batch_size > pace.step_seconds(base) / base.training.batch_size
    assert pace.slowed(2).speed_run_seconds(base) == pytest.approx(2 * pace.speed_run_seconds(base))
    assert pace.few_steps_seconds(base) > pace.startup_seconds(base) + 7 * pace.step_seconds(base)


def test_gpu_is_expected_to_be_heated_for_the_longest_time() -> None:
    from bench.measure.heating import HEATING_SECONDS

    assert GpuPace(gpu=GPU_SPECS["h100"]).heating_seconds == HEATING_SECONDS["cuda"]


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("NVIDIA A100-SXM4-80GB", "a100"),
        ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", "h20"),
    ],
)
def test_pace_is_that_of_the_card_that_nvml_names(name: str, known: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "count_gpus", lambda: 1)
    monkeypatch.setattr(preflight, "first_gpu_handle", lambda: None)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetName", lambda _: name)
    assert machine_pace() == GpuPace(gpu=GPU_SPECS[known])
    monkeypatch.setattr(preflight, "count_gpus", lambda: 0)
    assert machine_pace() is TWO_CORES


def test_command_line_without_a_gpu_counts_no_flops() -> None:
    """On two cores an estimate needs neither torch nor a model."""
    code = (
        "import sys; from bench.cli.main import parse; from bench.orchestration.pace import TWO_CORES; "
        "parse(['measure', 'clip-vit-b16', 'catlip-vit-b16']).expected_seconds(TWO_CORES); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_trial_is_a_run_of_memory_and_two_of_speed() -> None:
    tried = EXPERIMENTS["clip-tiny"]
    for pace in (TWO_CORES, GpuPace(gpu=GPU_SPECS["h100"])):
        seconds = pace.few_steps_seconds(tried) + 2 * pace.speed_run_seconds(tried)
        assert expected_trial_seconds(pace, tried) == seconds
        assert Doctor().expected_seconds(pace) > seconds
