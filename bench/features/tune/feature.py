"""What tuning adds."""

from bench.features.tune.records import Trial
from bench.interfaces.extensions import Extension
from bench.interfaces.verb import Verb

EXTENSION = Extension(
    record_kinds=[Trial],
    verbs=[
        Verb(
            "tune",
            "Search the settings of methods, with as many trials for each.",
            "bench.features.tune.verb:Tune",
        ),
    ],
)
