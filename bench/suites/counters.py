"""What a few steps of an experiment count: the same on every run of the same code on the same machine."""

from msgspec.structs import replace

from bench.config import Experiment
from bench.data.pack import Pictures
from bench.data.pack_stream import PackStream
from bench.measure.flops import count_flops
from bench.measure.memory import count_tensor_bytes
from bench.methods import method_named
from bench.suites.device import DEVICE
from bench.train.build import assemble, take_steps

BATCH, STEPS, PICTURES = 32, 3, 128


def step_counters(experiment: Experiment, pictures: Pictures) -> dict[str, float]:
    """Return bytes and FLOPs of a step of a small batch of few pictures, and on a CPU the loss of the third."""
    few = Pictures(
        pictures.pixels[:PICTURES], pictures.captions[:PICTURES], pictures.classes[:PICTURES], pictures.keys[:PICTURES]
    )
    small = replace(experiment, batch_size=BATCH, images=PICTURES, warmup_images=BATCH)
    stream = PackStream(small, few, method_named(small.method).targets(small), DEVICE)
    counted: dict[str, float] = {
        "peak tensor bytes": count_tensor_bytes(stream),
        "FLOPs of a step": count_flops(small, [stream.target(0)]).step,
    }
    if DEVICE.type == "cpu":  # elsewhere sums are taken in an order that varies
        losses = take_steps(assemble(stream, plain=True), range(STEPS))
        counted[f"loss at step {STEPS}"] = losses[-1].item()
    return counted
