"""What the decomposition of a ratio adds."""

from bench.features.explain.ladder import ExperimentLadder
from bench.interfaces.extensions import Extension
from bench.interfaces.sections import PageSection
from bench.interfaces.verb import LazyVerb

EXTENSION = Extension(
    record_kinds=[ExperimentLadder],
    verbs=[
        LazyVerb(
            "explain",
            "Find the causes of the throughput ratio of two experiments.",
            "bench.features.explain.verb:ExplainRatio",
        ),
    ],
    sections=[
        PageSection(
            "explanation",
            "Where the ratio comes from",
            "Causes",
            "bench.features.explain.section:build_explanation",
            place="above",
        )
    ],
)
