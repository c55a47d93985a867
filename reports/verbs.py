"""The verbs of `report`, and where each lies."""

from bench.interfaces.verb import LazyVerb

BUILT_IN = (
    LazyVerb(
        "build",
        "Write the page of a folder's newest comparison, joined with what belongs to it.",
        "reports.build:BuildPage",
    ),
    LazyVerb(
        "export",
        "Write a csv file with a row for every figure of every process.",
        "reports.export:ExportMetricValues",
    ),
)
