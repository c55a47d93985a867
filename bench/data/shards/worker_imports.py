"""What loader workers share: the process from which they fork imports this once."""

from bench.environment.imports import uncollected_imports

with uncollected_imports():
    import bench.data.shards.stream  # noqa: F401
