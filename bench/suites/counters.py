"""What a few steps of an experiment count: the same on every run of the same code on the same machine."""

from msgspec.structs import replace

from bench.config import Experiment
from bench.data.pack import PackImages
from bench.data.stream import PackStream
from bench.measure.costs import count_flops
from bench.measure.memory import count_tensor_bytes
from bench.methods import get_method
from bench.suites.device import DEVICE
from bench.train.build import build_train_state, take_steps

BATCH, STEPS, NUM_IMAGES = 32, 3, 128


def step_counters(experiment: Experiment, images: PackImages) -> dict[str, float]:
    """Return bytes and FLOPs of a step of a small batch of few images, and on a CPU the loss of the third."""
    few = PackImages(
        images.pixels[:NUM_IMAGES], images.captions[:NUM_IMAGES], images.classes[:NUM_IMAGES], images.keys[:NUM_IMAGES]
    )
    small = replace(experiment, batch_size=BATCH, images=NUM_IMAGES, warmup_images=BATCH)
    stream = PackStream(small, few, get_method(small.method).targets(small), DEVICE)
    counted: dict[str, float] = {
        "peak tensor bytes": count_tensor_bytes(stream),
        "FLOPs of a step": count_flops(small, [stream.target(0)]).step,
    }
    if DEVICE.type == "cpu":  # elsewhere sums are taken in an order that varies
        losses = take_steps(build_train_state(stream, plain=True), range(STEPS))
        counted[f"loss at step {STEPS}"] = losses[-1].item()
    return counted
