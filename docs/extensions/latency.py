"""How long one image waits for its features, and how many parameters its tower has."""

import time

from bench.interfaces.extensions import Extension
from bench.interfaces.measurement import ExtensionMeasurement
from bench.records.record import FigureSpec

NUM_IMAGES = 8
NUM_WARMUP = 2  # images before them


class Latency(ExtensionMeasurement):
    name = "latency"
    title = "Latency of the image tower"
    figures = (FigureSpec("one image", "ms", "lower"), FigureSpec("parameters", "million"))

    def measure(self, experiment, device, results):
        import torch

        from bench.train.build import build_untrained_tower

        tower = build_untrained_tower(experiment).to(device).eval()
        image = torch.zeros(1, tower.channels, tower.image_size, tower.image_size, device=device)
        milliseconds = []
        with torch.inference_mode():
            for _ in range(NUM_WARMUP + NUM_IMAGES):
                start = time.perf_counter()
                tower(image).sum().item()  # which waits for the device
                milliseconds.append(1000 * (time.perf_counter() - start))
        parameters = sum(weight.numel() for weight in tower.parameters())
        return {"one image": milliseconds[NUM_WARMUP:], "parameters": parameters / 1e6}


EXTENSION = Extension(measurements=[Latency()])
