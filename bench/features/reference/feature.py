"""What comparisons with other people's training code add."""

from bench.features.reference.records import ReferenceRun, ReleasedRun
from bench.interfaces.extensions import Extension

EXTENSION = Extension(
    record_kinds=[ReferenceRun, ReleasedRun],
    verbs={"reference": "bench.features.reference.verb:Reference"},
)
