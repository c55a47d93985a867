"""What the first hour on a GPU adds."""

from bench.interfaces.extensions import Extension
from bench.interfaces.verb import LazyVerb

EXTENSION = Extension(
    verbs=[
        LazyVerb(
            "gpu",
            "Test and measure for the first time on a GPU, step by step (docs/gpu.md).",
            "bench.features.gpu.verb:RunGpuCommands",
        ),
    ]
)
