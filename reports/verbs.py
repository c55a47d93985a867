"""The verbs of `report`, and where each lies."""

BUILT_IN = {
    "build": "reports.build:ComparisonPage",
    "export": "reports.exports.exports:ExportFigures",
}
