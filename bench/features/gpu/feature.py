"""What the first hour on a GPU adds."""

from bench.interfaces.extensions import Extension

EXTENSION = Extension(verbs={"gpu": "bench.features.gpu.verb:Gpu"})
