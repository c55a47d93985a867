"""What comparisons with other people's training code add."""

from bench.features.reference.records import ReferenceRun
from bench.interfaces.extensions import Extension
from bench.interfaces.verb import Verb

EXTENSION = Extension(
    record_kinds=[ReferenceRun],
    verbs=[
        Verb(
            "reference",
            "Compare training speed and losses with a reference implementation.",
            "bench.features.reference.verb:Reference",
        ),
    ],
)
