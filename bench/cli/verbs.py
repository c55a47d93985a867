"""The verbs of the command line that are no features, in the order of the help."""

from bench.interfaces.verb import LazyVerb

BUILT_IN = (
    LazyVerb(
        "list",
        "List experiments, their fields or recipes.",
        "bench.cli.listing:ListExperiments",
    ),
    LazyVerb(
        "measure",
        "Measure and compare throughput and memory.",
        "bench.cli.measure:MeasureSpeedAndMemory",
    ),
    LazyVerb(
        "train",
        "Pre-train a tower and score it on transfer tasks.",
        "bench.cli.train:TrainAndScoreTower",
    ),
    LazyVerb(
        "transfer",
        "Score trained towers on transfer tasks, beside baselines.",
        "bench.cli.transfer:ScoreTowers",
    ),
    LazyVerb(
        "export",
        "Export a trained tower in open_clip's or timm's layout.",
        "bench.cli.export:ExportTower",
    ),
    LazyVerb(
        "doctor",
        "Check this machine for disturbances and missing tools.",
        "bench.cli.doctor:CheckMachine",
    ),
    LazyVerb("report", "Build pages and exports from records.", "bench.cli.main:ReportWithoutVerb"),
)
