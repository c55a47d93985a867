"""What timings of a repository's commits add."""

from bench.interfaces.extensions import Extension
from bench.interfaces.verb import LazyVerb

EXTENSION = Extension(
    verbs=[
        LazyVerb(
            "regress",
            "Compare the speed of a work tree with that of a base commit.",
            "bench.features.history.verbs:CompareWithBaseCommit",
        ),
        LazyVerb(
            "history",
            "Time the pytest-benchmark suite of the last commits.",
            "bench.features.history.verbs:TimeCommits",
        ),
    ],
    report_verbs=[
        LazyVerb(
            "history",
            "Write charts over commits with the detected changes.",
            "bench.features.history.history_page:WriteHistoryPage",
        ),
    ],
)
