"""What the plan of a training on many GPUs adds."""

from bench.interfaces.extensions import Extension
from bench.interfaces.verb import Verb

EXTENSION = Extension(
    verbs=[
        Verb(
            "plan",
            "Predict step time, GPU-hours and price on many GPUs.",
            "bench.features.plan.verb:Plan",
        ),
    ],
)
