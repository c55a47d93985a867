"""What the decomposition of a ratio adds."""

from bench.features.explain.ladder import Ladder
from bench.interfaces.extensions import Extension
from bench.interfaces.sections import Section
from bench.interfaces.verb import Verb

EXTENSION = Extension(
    record_kinds=[Ladder],
    verbs=[
        Verb(
            "explain",
            "Find the causes of the throughput ratio of two experiments.",
            "bench.features.explain.verb:ExplainRatio",
        ),
    ],
    sections=[
        Section(
            "explanation",
            "Where the ratio comes from",
            "Causes",
            "bench.features.explain.section:build_explanation",
            place="above",
        )
    ],
)
