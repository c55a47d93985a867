"""What comparisons with other people's training code add."""

from bench.features.reference.records import ReferenceRun
from bench.interfaces.extensions import Extension
from bench.interfaces.verb import LazyVerb

EXTENSION = Extension(
    record_kinds=[ReferenceRun],
    verbs=[
        LazyVerb(
            "reference",
            "Compare training speed and losses with a reference implementation.",
            "bench.features.reference.verb:CompareWithReference",
        ),
    ],
)
