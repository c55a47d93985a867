"""What tuning adds."""

from bench.features.tune.records import Trial
from bench.interfaces.extensions import Extension
from bench.interfaces.verb import LazyVerb

EXTENSION = Extension(
    record_kinds=[Trial],
    verbs=[
        LazyVerb(
            "tune",
            "Search the settings of methods, with as many trials for each.",
            "bench.features.tune.verb:Tune",
        ),
    ],
)
