"""What the summary of data adds: a verb."""

from bench.interfaces.extensions import Extension

EXTENSION = Extension(verbs={"data": "bench.features.data_summary.verb:SummarizeData"})
