"""What the checks of an extension add."""

from bench.interfaces.extensions import Extension
from bench.interfaces.verb import LazyVerb

EXTENSION = Extension(
    verbs=[
        LazyVerb(
            "check",
            "Check the methods of an extension in seconds.",
            "bench.features.check.verb:CheckMethods",
        ),
    ],
)
