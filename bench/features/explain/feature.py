"""What the decomposition of a ratio adds."""

from bench.features.explain.ladder import Ladder
from bench.interfaces.extensions import Extension
from bench.interfaces.sections import Section

EXTENSION = Extension(
    record_kinds=[Ladder],
    verbs={"explain": "bench.features.explain.verb:ExplainRatio"},
    sections=[
        Section(
            "explanation",
            "Where the ratio comes from",
            "Causes",
            "bench.features.explain.section:build",
            place="above",
        )
    ],
)
