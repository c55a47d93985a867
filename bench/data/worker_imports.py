"""What loader workers share: the process from which they fork imports this once."""

from bench.environment.imports import imports_without_gc
from bench.interfaces.extensions import load_features_and_extensions

with imports_without_gc():
    import bench.data.sample_stream
    import bench.data.sources  # noqa: F401

load_features_and_extensions()
