"""What timings of this project's commits add."""

from bench.interfaces.extensions import Extension

EXTENSION = Extension(
    verbs={
        "regress": "bench.features.history.verbs:Regress",
        "history": "bench.features.history.verbs:History",
    },
    report_verbs={
        "history": "bench.features.history.report_verbs:HistoryPage",
        "compare": "bench.features.history.report_verbs:CompareFigures",
    },
)
