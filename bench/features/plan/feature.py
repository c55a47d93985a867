"""What the plan of a training on many GPUs adds."""

from bench.interfaces.extensions import Extension

EXTENSION = Extension(
    verbs={"plan": "bench.features.plan.verb:Plan"},
    hooks={"most_images_per_second": "bench.features.plan.workload:predict_most_images_per_second"},
)
