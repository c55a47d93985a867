"""What zero-shot scores add."""

from bench.features.lit.records import ZeroShot
from bench.interfaces.extensions import Extension
from bench.interfaces.sections import PageSection
from bench.interfaces.verb import LazyVerb

EXTENSION = Extension(
    record_kinds=[ZeroShot],
    verbs=[
        LazyVerb(
            "lit",
            "Learn text towers for locked image towers, and score them zero-shot.",
            "bench.features.lit.verb:LockedImageTuning",
        ),
    ],
    sections=[
        PageSection(
            "zero-shot",
            "Zero-shot and what it cost",
            "Zero-shot",
            "bench.features.lit.tables:build_zero_shot",
        )
    ],
)
