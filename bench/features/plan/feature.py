"""What the plan of a training on many GPUs adds."""

from bench.interfaces.extensions import Extension
from bench.interfaces.sections import Section
from bench.interfaces.verb import Verb

EXTENSION = Extension(
    verbs=[
        Verb(
            "plan",
            "Predict step time, GPU-hours and price on many GPUs.",
            "bench.features.plan.verb:Plan",
        ),
    ],
    sections=[
        Section(
            "plan", "On more GPUs", "More GPUs", "bench.features.plan.section:build", ["plan.json"]
        )
    ],
    hooks={"most_images_per_second": "bench.features.plan.workload:predict_most_images_per_second"},
)
