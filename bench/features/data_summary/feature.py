"""What the summary of data adds: a verb."""

from bench.interfaces.extensions import Extension
from bench.interfaces.verb import LazyVerb

EXTENSION = Extension(
    verbs=[
        LazyVerb(
            "data",
            "Show what data hold before a training reads them: images, captions and faults.",
            "bench.features.data_summary.verb:SummarizeData",
        ),
    ]
)
