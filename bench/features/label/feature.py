"""What labelling jobs add."""

from bench.extensions import Extension

EXTENSION = Extension(verbs={"label": "bench.features.label.verb:Label"})
