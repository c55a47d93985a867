"""The verb `plan`: predicts step time, GPU-hours and price of a training on many GPUs, and lists the assumptions."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from bench.cli.options import (
    Json,
    Results,
    Settings,
    experiments_from,
)
from bench.cli.train import Images, parse_count
from bench.console.console import OK
from bench.console.options import require_range
from bench.console.tables import print_tables
from bench.data.caption_lengths import describe_captions
from bench.environment.gpu_specs import GPU_SPECS, GpuSpec, find_gpu_spec
from bench.experiment.config import Experiment, choose
from bench.experiment.experiments import EXPERIMENTS
from bench.features.plan.collectives import FP32_BYTES
from bench.features.plan.interconnect import LINK_OPTIONS, LinkValue, choose_links, to_interconnect
from bench.features.plan.model import (
    LOSS_SHARE,
    OVERLAP,
    UTILISATION,
    Cluster,
    PlanCase,
    loss_peak_flops,
    plan_step,
    scaling_curve,
    training_cost,
)
from bench.features.plan.records import (
    TimedRuns,
    estimate_max_batch,
    find_timed_runs,
    measured_compute,
    newest_timed_records,
)
from bench.features.plan.tables import (
    PlanResult,
    assumption_table,
    communication_table,
    curve_table,
    plan_table,
)
from bench.records.record import Record

# Of an option that is a number: beyond, figures have no meaning, or no finite value.
LEAST, MOST = (
    1e-9,
    1e12,
)
USABLE = 0.9  # share of a GPU's memory: the rest is for context, kernels and fragmentation
HALF_PRECISION_BYTES = 2


@dataclass(frozen=True)
class Plan:
    """Predict step time, GPU-hours and price on many GPUs, from one device's records or an assumed utilisation.

    A prediction from records combines a measured step with a communication model; one from a utilisation is an
    assumption, not a measurement. All assumptions are printed.
    """

    names: Positional[tuple[str, ...]] = ()  # names of the experiments
    gpus: int = 64  # number of GPUs
    images: Images = None
    record: Path | None = None  # speed record of one device, or folder of records
    device: Annotated[
        str | None, arg(help=f"name of a GPU, in place of a record: {', '.join(GPU_SPECS)}")
    ] = None
    # share of that GPU's bf16 peak, communication excluded; default: the mean of published CLIP trainings
    utilisation: float | None = None
    batch: int | None = (
        None  # images per step of all GPUs; default: the experiment's batch_size on each GPU
    )
    price: float | None = None  # price of a GPU-hour
    overlap: float = OVERLAP  # share of forward and backward that can hide the communication of gradients and weights
    per_node: int | None = None  # number of GPUs per node; default: the device's
    link_gbs: float | None = (
        None  # bandwidth within a node, GB/s per GPU and direction; default: the device's
    )
    link_us: float | None = (
        None  # latency within a node, microseconds per ring step; default: NCCL's
    )
    network_gbs: float | None = (
        None  # bandwidth between nodes, GB/s per GPU and direction; default: the device's
    )
    network_us: float | None = None  # latency between nodes, microseconds per step; default: NCCL's
    # record of `doctor` under torchrun, or folder of records: what it measured replaces the defaults of these five
    links: Path | None = None
    settings: Settings = ()
    results: Results = Path("results")
    json: Json = None

    def run(self) -> int:
        """Predict, and print the tables."""
        self._require_valid_options()
        plans = [self._plan(experiment) for experiment in self._experiments]
        tables = [
            plan_table(plans, self.gpus, is_utilisation_given=self.utilisation is not None),
            communication_table(plans, self._cluster),
            curve_table(plans),
            assumption_table(self._assumptions()),
        ]
        print_tables(tables, self.json)
        return OK

    def _require_valid_options(self) -> None:
        for name in ("gpus", "batch", "price", *LINK_OPTIONS):
            require_range(name.replace("_", "-"), getattr(self, name), LEAST, MOST)
        require_range("overlap", self.overlap, 0, 1)
        require_range("utilisation", self.utilisation, LEAST, 1)
        if self.batch is not None and self.batch < self.gpus:
            raise ValueError(
                f"--batch must be at least one image for each of {self.gpus} GPUs, got {self.batch}"
            )
        if not self.names:
            raise ValueError(f"name the experiments to plan (there are {', '.join(EXPERIMENTS)})")
        if (self.record is None) == (self.device is None):
            raise ValueError(
                "a plan needs either --record FILE (measured) or --device NAME (assumed): give one"
            )

    @cached_property
    def _experiments(self) -> Sequence[Experiment]:
        return experiments_from(self.names, self.settings)

    @cached_property
    def _records(self) -> Sequence[Record]:
        return [] if self.record is None else newest_timed_records(self.record, self._experiments)

    def _timed_runs(self, experiment: Experiment) -> TimedRuns | None:
        return (
            None if self.record is None else find_timed_runs(experiment, self._records, self.record)
        )

    @cached_property
    def _device(self) -> GpuSpec | None:
        """The data sheet of the named or the recorded device; None for a CPU and an unknown GPU."""
        if self.device is not None:
            return choose(self.device.lower(), GPU_SPECS, "device")
        runs = self._timed_runs(self._experiments[0])
        if runs is None or runs.where.device != "cuda":
            return None
        return find_gpu_spec(runs.where.machine.partition(";")[0])  # the CPU's name follows

    @cached_property
    def _links(self) -> dict[str, LinkValue]:
        given = {name: getattr(self, name) for name in LINK_OPTIONS}
        return choose_links(given, self.links, self._device)

    @property
    def _cluster(self) -> Cluster:
        return Cluster(to_interconnect(self._links), self.overlap)

    def _plan(self, experiment: Experiment) -> PlanResult:
        runs = self._timed_runs(experiment)
        return (
            self._plan_from_flops(experiment)
            if runs is None
            else self._plan_from_runs(experiment, runs)
        )

    def _plan_from_flops(self, experiment: Experiment) -> PlanResult:
        """Plan from counted FLOPs at an assumed utilisation of the device."""
        from bench.features.plan.workload import (
            count_communicated_parameters,
            estimate_compute_profile,
        )

        assert self._device is not None
        utilisation = self.utilisation or UTILISATION
        compute, tokens = estimate_compute_profile(
            experiment, self._device, utilisation, self.results
        )
        weights = count_communicated_parameters(experiment)
        case = PlanCase(
            experiment.name,
            weights,
            compute,
            experiment.mean_batch_size,
            experiment.runtime.sharding,
            HALF_PRECISION_BYTES,
        )
        largest = (None, "unknown without memory records of one GPU; give --record")
        return self._result(
            experiment, case, tokens, self._device.watts, largest, is_measured=False
        )

    def _plan_from_runs(self, experiment: Experiment, runs: TimedRuns) -> PlanResult:
        """Plan from the measured step of one device."""
        from bench.features.plan.workload import count_communicated_parameters

        device = self._device
        weights = count_communicated_parameters(experiment)
        largest: tuple[int | None, str] = (None, "unknown without a data sheet of the device")
        if device is not None:
            peak: float | None = loss_peak_flops(device, experiment.runtime.contrastive_precision)
            per_node = self._cluster.links.gpus_per_node
            limit_bytes = USABLE * device.memory_bytes
            largest = estimate_max_batch(
                experiment, self._records, limit_bytes, weights, self.gpus, per_node
            )
        else:
            peak = runs.runs[0].peak_flops_per_second if runs.where.device == "cpu" else None
        if peak is None:
            raise ValueError(f"no fp32 peak is known of {runs.where.machine}")
        case = PlanCase(
            experiment.name,
            weights,
            measured_compute(runs, LOSS_SHARE * peak),
            experiment.mean_batch_size,
            experiment.runtime.sharding,
            FP32_BYTES if runs.where.precision == "fp32" else HALF_PRECISION_BYTES,
        )
        tokens = runs.runs[0].tokens_per_caption
        return self._result(experiment, case, tokens, runs.watts, largest, is_measured=True)

    def _result(
        self,
        experiment: Experiment,
        case: PlanCase,
        tokens: float | None,
        watts: float | None,
        largest: tuple[int | None, str],
        *,
        is_measured: bool,
    ) -> PlanResult:
        step = plan_step(case, self._cluster, self.gpus, self.batch)
        images = experiment.training.images if self.images is None else parse_count(self.images)
        return PlanResult(
            case=case,
            is_measured=is_measured,
            tokens_per_caption=tokens,
            step=step,
            cost=training_cost(step, images, self.price, watts),
            curve=scaling_curve(case, self._cluster, self.gpus, self.batch),
            largest_batch=largest[0],
            largest_batch_source=largest[1],
        )

    def _assumptions(self) -> dict[str, tuple[str, str]]:
        """Return the value and the source of each assumption."""
        rows = {}
        for experiment in self._experiments:
            runs = self._timed_runs(experiment)
            if runs is not None:
                batch = runs.experiment.training.batch_size
                basis = f"measured: {len(runs.runs)} runs, batch {batch}, {runs.where.precision}"
                rows[f"step of {experiment.name}"] = (basis, runs.where.machine)
                if runs.watts is not None:
                    rows[f"power, {experiment.name}"] = (
                        f"{runs.watts:.0f} W, constant",
                        "measured, energy counter",
                    )
        if self.device is not None and self._device is not None:
            device = self._device
            source = "given" if self.utilisation else "mean of published CLIP trainings"
            peak = f"{self.utilisation or UTILISATION:.3f} of {device.bf16_flops / 1e12:g} TFLOP/s, bf16"
            rows["utilisation"] = (
                f"{peak} ({device.source})",
                f"assumed, not a measurement: {source}",
            )
            rows["power of a GPU"] = (f"{device.watts:g} W, constant", device.source)
        rows["captions"] = (describe_captions(self._experiments), "--set caption_lengths=LENGTHS")
        for name, link in self._links.items():
            title, unit = LINK_OPTIONS[name]
            rows[title] = (f"{link.value:.4g}{unit}", link.source)
        overlap = f"hidden behind {self.overlap:.0%} of forward and backward"
        rows["communication of gradients and weights"] = (overlap, "--overlap")
        rows["communication of features"] = (
            "not hidden: the loss waits for it",
            "losses/collectives.py",
        )
        rows["loss with further captions"] = (
            f"{LOSS_SHARE:.0%} of the peak of its precision",
            "assumed",
        )
        rows["computation"] = (
            "proportional to the number of images",
            "assumed, within the memory limit",
        )
        rows["not modelled"] = (
            "waiting for slow GPUs and for data, stalls, restarts, scoring, power of hosts",
            "",
        )
        return rows
