"""The command line without a verb: the default comparison, a short check of it, or a full one."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import arg

from bench.cli.options import DataOptions, Results, ScoreOn, Tasks
from bench.interfaces.registry import import_object


@dataclass(frozen=True, kw_only=True)
class DefaultComparison(DataOptions):
    """Compare the methods at the tiny scale: throughput, memory, training at equal budgets, transfer accuracy."""

    # methods to compare, separated by commas; default: clip,siglip,catlip,superclass, with --smoke clip,catlip
    methods: Annotated[str | None, arg(metavar="NAMES")] = None
    # limit of the whole in minutes, to which rounds, images and seeds are fitted; default: about 12, without a limit
    minutes: float | None = None
    smoke: bool = False  # only check that every stage runs, in about 90 s; the figures mean nothing
    # train three seeds of each method, each on 320,000 images; on a CPU it takes hours
    full: bool = False
    score_on: ScoreOn = None
    tasks: Tasks = ()
    # continue the newest comparison in RESULTS, which must be of the same methods, commit, --smoke and
    # --full: recorded runs are not repeated, failed ones are; default: begin a new one
    resume: bool = False
    results: Results = Path("results")

    @property
    def scope_name(self) -> str:
        """The name of the scope; ValueError for options that exclude each other."""
        name = "smoke" if self.smoke else "full" if self.full else "default"
        num_given = [self.smoke, self.full, self.minutes is not None].count(True)
        if num_given > 1:
            raise ValueError("--smoke, --full and --minutes exclude each other")
        return name

    def run(self) -> int:
        """Measure speed and memory, train, and score the towers."""
        code: int = import_object("bench.cli.default_comparison:run_default_comparison")(self)
        return code
