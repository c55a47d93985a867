"""What labelling jobs add."""

from bench.interfaces.extensions import Extension

EXTENSION = Extension(
    verbs={"label": "bench.features.label.verb:Label"},
    hooks={"count_labels": "bench.features.label.verb:count_labels"},
)
