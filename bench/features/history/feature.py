"""What timings of this project's commits add."""

from bench.interfaces.extensions import Extension
from bench.interfaces.verb import Verb

EXTENSION = Extension(
    verbs={
        "regress": "bench.features.history.verbs:Regress",
        "history": "bench.features.history.verbs:History",
    },
    report_verbs={
        "history": "bench.features.history.history_page:HistoryPage",
    },
)
