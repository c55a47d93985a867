"""What timings of a repository's commits add."""

from bench.interfaces.extensions import Extension
from bench.interfaces.verb import Verb

EXTENSION = Extension(
    verbs=[
        Verb(
            "regress",
            "Compare the speed of a work tree with that of a base commit.",
            "bench.features.history.verbs:Regress",
        ),
        Verb(
            "history",
            "Time the pytest-benchmark suite of the last commits.",
            "bench.features.history.verbs:History",
        ),
    ],
    report_verbs=[
        Verb(
            "history",
            "Write charts over commits with the detected changes.",
            "bench.features.history.history_page:HistoryPage",
        ),
    ],
)
