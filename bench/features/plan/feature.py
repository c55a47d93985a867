"""What the plan of a training on many GPUs adds."""

from bench.interfaces.extensions import Extension
from bench.interfaces.verb import LazyVerb

EXTENSION = Extension(
    verbs=[
        LazyVerb(
            "plan",
            "Predict step time, GPU-hours and price on many GPUs.",
            "bench.features.plan.verb:PredictScaling",
        ),
    ],
)
