"""Instruments measure at their edges, and what was not measured is not zero."""

import math
import time
from pathlib import Path

import pytest
import torch
from msgspec.structs import replace
from torch.utils.flop_counter import FlopCounterMode

from bench.experiments import EXPERIMENTS
from bench.methods import METHODS
from bench.profilers.clock import Elapsed, clock
from bench.profilers.device import open_reader, sampled
from bench.profilers.flops import count_flops
from bench.run import measure_memory, measure_speed
from models.image_tower import build_image_tower
from models.text_tower import build_text_tower
from tests.small import small

CPU = torch.device("cpu")


def test_the_clock_ticks_and_half_a_measurement_is_none() -> None:
    with clock(CPU) as elapsed:
        time.sleep(0.02)
    assert elapsed.seconds >= 0.02
    assert math.isnan(Elapsed().seconds)


def test_a_block_that_raises_is_not_swallowed() -> None:
    with pytest.raises(RuntimeError), clock(CPU):
        raise RuntimeError


def test_a_reader_is_asked_while_the_block_runs() -> None:
    with sampled(lambda: lambda: {"busy percent": 50.0}, every_s=0.01) as samples:
        time.sleep(0.1)
    assert samples.means() == {"busy percent": 50.0}
    assert len(samples.readings) > 2


@pytest.mark.parametrize("where", ["opening", "reading"])
def test_a_reader_that_fails_leaves_its_reason_and_disturbs_nothing(where: str) -> None:
    def fail() -> dict[str, float]:
        raise OSError("no driver")

    with sampled(fail if where == "opening" else lambda: fail, every_s=0.01) as samples:  # type: ignore[arg-type, return-value]
        time.sleep(0.05)
    assert samples.means() == {}
    assert samples.failure == "OSError: no driver"


def test_the_cpu_reader_tells_this_process_from_the_others() -> None:
    read = open_reader(CPU)
    end = time.monotonic() + 0.2
    while time.monotonic() < end:
        sum(range(1000))
    reading = read()
    assert set(reading) == {"process CPU busy percent", "other processes CPU busy percent"}
    assert reading["process CPU busy percent"] > 5


@pytest.mark.parametrize(
    ("name", "image", "text"), [("ViT-B-32", 8.82, 5.96), ("ViT-B-16", 35.13, 5.96), ("ViT-L-14", 162.03, 13.3)]
)
def test_flops_are_those_open_clip_publishes(name: str, image: float, text: float) -> None:
    """GFLOP a sample, of open_clip's docs/model_profile.csv."""
    with torch.device("meta"):
        tower = build_image_tower(name, 224, 0)
        words = build_text_tower(name, 77, 49_408, 0)
        with FlopCounterMode(display=False) as counter:
            tower(torch.empty(1, 3, 224, 224))
        assert counter.get_total_flops() / 1e9 == pytest.approx(image, rel=0.01)
        with FlopCounterMode(display=False) as counter:
            words(torch.empty(1, 77, dtype=torch.int64), torch.empty(1, dtype=torch.int64))
        assert counter.get_total_flops() / 1e9 == pytest.approx(text, rel=0.01)


def test_text_is_counted_at_the_tokens_computed() -> None:
    experiment = replace(EXPERIMENTS["clip-tiny"], batch_size=2)
    targets = METHODS["clip"].targets(experiment)(
        ["dog", "a dog and a cat and a bird and a horse and a cow and a sheep"]
    )
    short, long = targets.take(torch.tensor([0, 0])), targets.take(torch.tensor([1, 0]))
    counted = [count_flops(experiment, batches) for batches in ([short], [long], [short, long])]
    assert counted[0].image_forward == counted[1].image_forward
    assert counted[0].text_forward < counted[1].text_forward
    assert counted[2].text_forward == (counted[0].text_forward + counted[1].text_forward) // 2


def test_a_speed_run_records_every_window_and_phase(results: Path) -> None:
    speed = measure_speed(small("clip"), CPU, results, 3)
    assert speed.round == 3
    assert len(speed.window_seconds) == 2
    assert len(speed.data_seconds) == len(speed.forward_backward_seconds) == len(speed.update_seconds) == 2
    assert all(seconds > 0 for seconds in (*speed.window_seconds, *speed.forward_backward_seconds))
    assert speed.flops.step > 2 * speed.flops.forward
    assert speed.tokens_per_caption is not None
    assert speed.trained_parameters > speed.tower_parameters > 0


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak resident memory is read from /proc")
def test_memory_is_a_peak_of_the_cpu_and_no_cuda_count(results: Path) -> None:
    memory = measure_memory(small("catlip"), CPU, results)
    assert memory.peak_rss_bytes is not None
    assert memory.peak_rss_bytes >= 0
    assert memory.peak_allocated_bytes is None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_is_measured(results: Path) -> None:
    device = torch.device("cuda")
    experiment = small("clip", precision="bf16")
    memory = measure_memory(experiment, device, results)
    assert memory.peak_rss_bytes is None
    assert memory.peak_allocated_bytes
    speed = measure_speed(experiment, device, results, 0)
    assert speed.utilisation_failure is None
