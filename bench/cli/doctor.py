"""The verb `doctor`: disturbances and missing tools of this machine, links between ranks, or the loading of data."""

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from tyro.conf import arg

from bench.cli.links import measure_link_speed
from bench.cli.loading_check import check_loading, chosen_gpu_spec, predict_gpu_rate
from bench.cli.machine_checks import FINDING_OK, Finding, check_machine, finding_table, judge
from bench.cli.options import (
    OPTION_NAMES,
    Caption,
    Json,
    Launch,
    Results,
    Settings,
    experiment_from,
    print_results,
)
from bench.console.console import OK, log
from bench.console.options import require_range
from bench.console.tables import print_tables
from bench.data.manifest import CACHE
from bench.data.samples import open_samples
from bench.environment.circumstances import summarize_machine
from bench.experiment.experiments import EXPERIMENTS
from bench.measure.throughput import images_per_second
from bench.measure.windows import timed_windows
from bench.orchestration.preflight import begin, check
from bench.records.record import Record, Speed

MAX_WAITED = 0.2  # share of the steps of the trial that may wait for a core
TRIED = "clip-tiny"  # experiment that shows how fast the machine is


@dataclass(frozen=True, slots=True)
class Doctor:
    """Check this machine for disturbances and missing tools, and time one run.

    With --launch, measure the links between ranks instead, within and between nodes.

    With --shards, load data for a few seconds instead, and predict how many cores feed the GPUs in a training of an
    experiment.
    """

    shards: Annotated[
        str | None,
        arg(
            metavar="GLOB",
            help="data to load: tar shards or any other that `train --data` reads",
        ),
    ] = None
    caption: Caption = None
    experiment: str | None = (
        None  # name of the experiment that the shards feed; default clip-vit-b16
    )
    device: Annotated[
        str | None, arg(help="name of its GPU; default: this machine's, by its data sheet")
    ] = None
    images_per_s: float | None = (
        None  # images/s per GPU that the training takes; default: what `plan` predicts
    )
    loading_seconds: float = 10.0  # seconds of loading
    launch: Launch = ""
    settings: Settings = ()
    results: Results = Path("results")
    json: Json = None
    purpose: ClassVar[str] = "check"
    resume_hint = "there is nothing to resume"

    def run(self) -> int:
        """Check the machine, time one short run, and print the findings: each as it is found, then all in a table."""
        if self.shards is not None:
            return self._check_shards(self.shards)
        for option in ("caption", "experiment", "device", "images_per_s", "settings"):
            if getattr(self, option) not in (None, ()):
                name = OPTION_NAMES.get(option, option.replace("_", "-"))
                raise ValueError(f"--{name} is for --shards: add it, or leave out --{name}")
        if self.launch:
            return measure_link_speed(self.results, self.launch, self.json)
        findings = list[Finding]()
        for finding in check_machine(
            self.results
        ):  # logged at once, so that it is known if a later check hangs
            problem = "" if finding.verdict == FINDING_OK else f" ({finding.verdict})"
            log(f"{finding.check}: {finding.found}{problem}")
            findings.append(finding)
        with tempfile.TemporaryDirectory() as folder:
            experiments = [EXPERIMENTS[TRIED]]
            check(Path(folder), experiments)
            trial = begin(Path(folder), "trial", experiments)
            trial.measure(1)
            findings += describe_trial(trial.records())
            return print_results(trial, [finding_table("This machine", findings)], self.json)

    def _check_shards(self, shards: str) -> int:
        """Predict the cores that load the data fast enough."""
        require_range("loading-seconds", self.loading_seconds, 0, 1e6)
        require_range("images-per-s", self.images_per_s, 1e-3, 1e9)
        if self.device is not None and self.images_per_s is not None:
            raise ValueError(
                "--device and --images-per-s both give the images/s of a GPU: leave out one of them"
            )
        experiment = experiment_from(
            self.experiment or "clip-vit-b16", self.settings, shards, caption=self.caption
        )
        gpu = chosen_gpu_spec(self.device) if self.images_per_s is None else None
        samples = open_samples(experiment, self.results / CACHE)
        rate = predict_gpu_rate(experiment, gpu, self.images_per_s, self.results)
        table = check_loading(experiment, rate, self.results, self.loading_seconds)
        for note in samples.notes():
            log(f"{shards}: {note}")
        print_tables([table], self.json)
        return OK


def describe_trial(records: Sequence[Record]) -> Iterator[Finding]:
    """Report the device and the images/s of the trial run."""
    for record in records:
        if isinstance(record.measured, Speed) and record.experiment is not None:
            where = record.circumstances
            yield Finding("device", f"{summarize_machine(where)}; {where.precision}")
            rate = images_per_second(record.experiment, record.measured)
            waited = 1 - float(
                timed_windows(record.experiment, record.measured).is_counted().mean()
            )
            found = f"{rate:,.0f} images/s; {waited:.0%} of its steps waited for a core"
            yield judge(
                f"trial of {TRIED}",
                found,
                "end other work, or measure longer",
                is_bad=waited > MAX_WAITED,
            )
