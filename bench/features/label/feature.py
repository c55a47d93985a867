"""What labelling jobs add."""

from bench.interfaces.extensions import Extension
from bench.interfaces.verb import Verb

EXTENSION = Extension(
    verbs=[
        Verb(
            "label",
            "Extract labels from caption files, or count labels into a vocabulary.",
            "bench.features.label.verb:Label",
        ),
    ],
    hooks={"count_labels": "bench.features.label.verb:count_labels"},
)
