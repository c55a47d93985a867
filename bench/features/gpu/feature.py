"""What the first hour on a GPU adds."""

from bench.interfaces.extensions import Extension
from bench.interfaces.verb import Verb

EXTENSION = Extension(
    verbs=[
        Verb(
            "gpu",
            "Test and measure for the first time on a GPU, step by step (docs/gpu.md).",
            "bench.features.gpu.verb:Gpu",
        ),
    ]
)
