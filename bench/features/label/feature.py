"""What counting labels adds."""

from bench.interfaces.extensions import Extension
from bench.interfaces.verb import LazyVerb

EXTENSION = Extension(
    verbs=[
        LazyVerb(
            "label",
            "Count the labels of captions into a vocabulary, or show the labels of a caption.",
            "bench.features.label.verb:CountLabels",
        ),
    ],
)
