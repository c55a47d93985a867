"""What loader workers share: the process from which they fork imports this once."""

from bench.environment.imports import uncollected_imports
from bench.extensions import load_extensions

with uncollected_imports():
    import bench.data.sample_stream
    import bench.data.sources  # noqa: F401

load_extensions()
