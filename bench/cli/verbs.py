"""The verbs of the command line that are no features, in the order of the help."""

from bench.interfaces.verb import Verb

BUILT_IN = (
    Verb("list", "List experiments, their fields, recipes or towers.", "bench.cli.listing:List"),
    Verb("measure", "Measure and compare throughput and memory.", "bench.cli.measure:Measure"),
    Verb("train", "Pre-train a tower and score it on transfer tasks.", "bench.cli.train:Train"),
    Verb(
        "transfer",
        "Score trained towers on transfer tasks, beside baselines.",
        "bench.cli.transfer:Transfer",
    ),
    Verb(
        "export",
        "Export a trained tower in open_clip's or timm's layout.",
        "bench.cli.export:Export",
    ),
    Verb("doctor", "Check this machine, or the loading of data.", "bench.cli.doctor:Doctor"),
    Verb("report", "Build pages and exports from records.", "bench.cli.main:Report"),
)
