"""The verbs of `report`, and where each lies."""

from bench.interfaces.verb import Verb

BUILT_IN = (
    Verb(
        "build",
        "Write the page of a folder's newest comparison, joined with what belongs to it.",
        "reports.build:BuildPage",
    ),
    Verb(
        "export",
        "Write a csv file with a row for every figure of every process.",
        "reports.export:ExportFigures",
    ),
)
