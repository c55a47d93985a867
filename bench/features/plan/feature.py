"""What the plan of a training on many GPUs adds."""

from bench.interfaces.extensions import Extension
from bench.interfaces.sections import Section

EXTENSION = Extension(
    verbs={"plan": "bench.features.plan.verb:Plan"},
    report_verbs={"plan": "bench.features.plan.section:PlanPage"},
    sections=[Section("plan", "On more GPUs", "More GPUs", "bench.features.plan.section:build", ["plan.json"])],
    hooks={
        "most_images_per_second": "bench.features.plan.workload:predict_most_images_per_second",
        "communication_range": "bench.features.plan.workload:communication_range",
    },
)
