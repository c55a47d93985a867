"""What is imported once, before the processes of tests part."""

from importlib import import_module

from bench.environment.imports import imports_without_gc
from bench.interfaces.extensions import load_features_and_extensions

MODULES = (
    "open_clip.loss",
    "torch.nn.parallel",
    "bench.train.loop",
    "bench.transfer.score",
    "bench.cli.main",
    "tyro",
    "bench.orchestration.worker",
    "bench.measure.memory",
    "pandas",
    "scipy.stats",
    "reports.build",
    "tests.computed_once",
)
with imports_without_gc():
    for module in MODULES:
        import_module(module)
    load_features_and_extensions()  # which every process of a run does first
