"""The verbs of `report`, and where each lies."""

BUILT_IN = {
    "build": "reports.build:ComparisonPage",
    "plan": "reports.plan:PlanPage",
    "export": "reports.exports.verb:ExportFigures",
}
