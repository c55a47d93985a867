"""The verb `plan`: predicts step time, GPU-hours and price of a training on many GPUs, and lists the assumptions."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import Annotated, ClassVar

from tyro.conf import Positional, arg

from bench.cli.options import Caption, CaptionLengths, Json, Results, Settings, add_caption_settings, experiments_from
from bench.cli.train import Images, parse_count
from bench.console.console import DISAGREEMENT, FAILED_CASE, OK, log
from bench.console.options import require_range
from bench.console.tables import print_tables
from bench.data.caption_lengths import describe_captions
from bench.environment.gpu_specs import GB, GPU_SPECS, GpuSpec, find_gpu_spec
from bench.experiment.config import Experiment, choose
from bench.experiment.experiments import EXPERIMENTS
from bench.features.plan.calibration import PredictedUtilisation
from bench.features.plan.collectives import FP32_BYTES, LINK_SHARE, LINK_US, NETWORK_US, Interconnect
from bench.features.plan.inverse import CaseOnGpus, mfu_ratio_table, solution_table
from bench.features.plan.model import (
    LOSS_SHARE,
    OVERLAP,
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
    measured_interconnect,
    newest_timed_records,
)
from bench.features.plan.tables import (
    PlanResult,
    assumption_table,
    communication_table,
    curve_table,
    error_table,
    factor_table,
    interval_table,
    plan_table,
    published_table,
)
from bench.measure.throughput import model_flops_utilisation
from bench.records.record import Record

MICRO = 1e-6
LEAST, MOST = 1e-9, 1e12  # of an option that is a number: beyond, figures have no meaning, or no finite value
INTERCONNECT = {
    "per_node": "GPUs per node",
    "link_gbs": "links within a node",
    "link_us": "links within a node, latency",
    "network_gbs": "network",
    "network_us": "network, latency",
}  # options and titles of the values of `Interconnect`
UNITS = {"gbs": " GB/s per GPU and direction", "us": " us per step"}
USABLE = 0.9  # share of a GPU's memory: the rest is for context, kernels and fragmentation


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
    device: Annotated[str | None, arg(help=f"name of a GPU, in place of a record: {', '.join(GPU_SPECS)}")] = None
    # share of that GPU's bf16 peak, communication excluded; default: predicted from published CLIP trainings
    utilisation: float | None = None
    batch: int | None = None  # images per step of all GPUs; default: the experiment's batch_size on each GPU
    price: float | None = None  # price of a GPU-hour
    overlap: float = OVERLAP  # share of forward and backward that can hide the communication of gradients and weights
    per_node: int | None = None  # number of GPUs per node; default: the device's
    link_gbs: float | None = None  # bandwidth within a node, GB/s per GPU and direction; default: the device's
    link_us: float | None = None  # latency within a node, microseconds per ring step; default: NCCL's
    network_gbs: float | None = None  # bandwidth between nodes, GB/s per GPU and direction; default: the device's
    network_us: float | None = None  # latency between nodes, microseconds per step; default: NCCL's
    # record of `doctor` under torchrun, or folder of records: what it measured replaces the defaults of these five
    links: Path | None = None
    # number of local CPU processes on which the prediction is validated, instead of a plan
    validate_local: int | None = None
    # ratio of images per GPU-second, second name over first; print what would give it, instead of a plan. --gpus is the
    # first's number, the second has as many as give the same images per step
    solve: float | None = None
    published: bool = False  # validate the prediction with published CLIP trainings, instead of a plan
    caption_lengths: CaptionLengths = None
    caption: Caption = None
    settings: Settings = ()
    results: Results = Path("results")
    json: Json = None
    purpose: ClassVar[str] = "explain"
    resume_hint = "there is nothing to resume"

    def run(self) -> int:
        """Predict, or validate the prediction."""
        self._require_valid_options()
        if self.published:
            latencies = MICRO * (self.link_us or LINK_US), MICRO * (self.network_us or NETWORK_US)
            errors = [error_table(latencies, self.overlap)] if self.utilisation is None else []
            print_tables([*errors, published_table(self.utilisation, latencies, self.overlap)], self.json)
            return OK
        if not self.names:
            raise ValueError(f"name the experiments to plan (there are {', '.join(EXPERIMENTS)})")
        if self.validate_local is not None:
            return self._validate_locally(self.validate_local)
        if self.solve is not None:
            return self._solve(self.solve)
        if (self.record is None) == (self.device is None):
            raise ValueError("a plan needs either --record FILE (measured) or --device NAME (assumed): give one")
        plans = [self._plan(experiment) for experiment in self._experiments]
        factors = factor_table([one.on_gpus for one in plans], self._cluster)
        tables = [plan_table(plans, self.gpus), interval_table(plans), factors]
        tables += [communication_table(plans, self._cluster)]
        print_tables([*tables, curve_table(plans), assumption_table(self._assumptions())], self.json)
        return OK

    def _solve(self, target: float) -> int:
        """Print which ratios of MFU, networks and gains of precision would give a ratio of speeds."""
        from bench.features.plan.workload import case_with_released_flops

        if len(self._experiments) != 2 or self._device is None:  # noqa: PLR2004
            raise ValueError("--solve needs a baseline, an experiment and --device NAME")
        utilisation = self._utilisation.value
        baseline, experiment = (case_with_released_flops(one, self._device, utilisation) for one in self._experiments)
        first, second = self._experiments
        gpus = max(1, round(self.gpus * first.training.batch_size / second.training.batch_size))
        pair = CaseOnGpus(baseline, self.gpus), CaseOnGpus(experiment, gpus)
        tables = [solution_table(pair, self._cluster, target), factor_table(pair, self._cluster)]
        tables += [mfu_ratio_table(self._measured_mfu_ratio())]
        padded = {"captions": ("padded to the context, every token computed", "the released code")}
        print_tables([*tables, assumption_table(self._assumptions() | padded)], self.json)
        return OK

    def _measured_mfu_ratio(self) -> list[tuple[str, float, str]]:
        """Return the ratio of MFU of the two experiments in the records, if there are any."""
        timed = [runs for one in self._experiments if (runs := self._timed_runs(one)) is not None]
        if len(timed) < len(self._experiments):
            return []
        rates = [median(model_flops_utilisation(one.experiment, run, 1.0) for run in one.runs) for one in timed]
        return [("measured pair", rates[1] / rates[0], timed[0].where.machine)]

    def _validate_locally(self, processes: int) -> int:
        from bench.features.plan.validation import RunFailedError, validate_locally

        experiments = dict(zip(dict.fromkeys(self.names), self._experiments, strict=True))
        try:
            table, agrees = validate_locally(experiments, self._all_settings, processes, self.results)
        except RunFailedError as failure:
            log(f"FAILED {failure}")
            return FAILED_CASE
        print_tables([table], self.json)
        return OK if agrees else DISAGREEMENT

    def _require_valid_options(self) -> None:
        for name in ("gpus", "batch", "solve", "price", *INTERCONNECT):
            require_range(name.replace("_", "-"), getattr(self, name), LEAST, MOST)
        require_range("overlap", self.overlap, 0, 1)
        require_range("utilisation", self.utilisation, LEAST, 1)
        if self.validate_local is not None and self.validate_local < 2:  # noqa: PLR2004
            raise ValueError(f"--validate-local must be at least 2, got {self.validate_local}")
        if self.batch is not None and self.batch < self.gpus:
            raise ValueError(f"--batch must be at least one image for each of {self.gpus} GPUs, got {self.batch}")

    @cached_property
    def _experiments(self) -> Sequence[Experiment]:
        return experiments_from(self.names, self._all_settings)

    @property
    def _all_settings(self) -> Sequence[str]:
        return add_caption_settings(self.settings, self.caption_lengths, self.caption)

    @cached_property
    def _records(self) -> Sequence[Record]:
        return [] if self.record is None else newest_timed_records(self.record, self._experiments)

    def _timed_runs(self, experiment: Experiment) -> TimedRuns | None:
        return None if self.record is None else find_timed_runs(experiment, self._records, self.record)

    @cached_property
    def _device(self) -> GpuSpec | None:
        """The data-sheet values of the named or the recorded device."""
        if self.device is not None:
            return choose(self.device.lower(), GPU_SPECS, "device")
        runs = self._timed_runs(self._experiments[0])
        if runs is None or runs.where.device != "cuda":
            return None
        return find_gpu_spec(runs.where.machine.partition(";")[0])  # the CPU's name follows

    @cached_property
    def _utilisation(self) -> PredictedUtilisation:
        """The given utilisation, or that of published trainings for the first experiment; all experiments share it."""
        from bench.features.plan.workload import predict_utilisation

        if self.utilisation is not None:
            return PredictedUtilisation.given(self.utilisation)
        assert self._device is not None
        return predict_utilisation(self._experiments[0], self._device)

    @cached_property
    def _interconnect(self) -> dict[str, tuple[float, str]]:
        """The value and the source of each option of the interconnect: given, measured, or by the data sheet."""
        sheet, bandwidths = dict[str, float | None](), dict[str, float | None]()
        if (device := self._device) is not None:
            sheet, network = {"per_node": device.gpus_per_node}, device.network_bytes_per_second
            bandwidths = {"link_gbs": LINK_SHARE * device.link_bytes_per_second / GB}
            bandwidths["network_gbs"] = network and LINK_SHARE * network / GB
        sources = (
            ({name: getattr(self, name) for name in INTERCONNECT}, "given"),
            (measured_interconnect(self.links, device) if self.links else {}, f"measured: {self.links}"),
            (bandwidths, f"{LINK_SHARE:.0%} of the data sheet's (nccl-tests on A100)"),
            (sheet, "data sheet"),
            ({"link_us": LINK_US, "network_us": NETWORK_US}, "NCCL's constant"),
        )
        found = dict[str, tuple[float, str]]()
        for values, source in reversed(sources):
            found |= {name: (value, source) for name, value in values.items() if value is not None}
        if unknown := [f"--{name.replace('_', '-')}" for name in INTERCONNECT if name not in found]:
            name = self.device or "the device of the record"
            remedy = f"give --links or {', '.join(unknown)}"
            raise ValueError(f"no data sheet is known for the interconnect of {name}: {remedy}")
        return found

    @cached_property
    def _cluster(self) -> Cluster:
        per_node, link, latency, network, network_latency = (self._interconnect[name][0] for name in INTERCONNECT)
        links = Interconnect(int(per_node), GB * link, MICRO * latency, GB * network, MICRO * network_latency)
        return Cluster(links, self.overlap)

    def _plan(self, experiment: Experiment) -> PlanResult:
        from bench.features.plan.workload import count_communicated_parameters, estimate_compute_profile

        weights, runs, device = count_communicated_parameters(experiment), self._timed_runs(experiment), self._device
        bytes_per_parameter, ends = 2, tuple[float, ...]()
        largest: tuple[int | None, str] = (None, "unknown without memory records of one GPU; give --record")
        if runs is not None:
            cpu_peak = runs.runs[0].peak_flops_per_second if runs.where.device == "cpu" else None
            peak = cpu_peak if device is None else loss_peak_flops(device, experiment.runtime.contrastive_precision)
            if peak is None:
                raise ValueError(f"no fp32 peak is known of {runs.where.machine}")
            compute, watts = measured_compute(runs, LOSS_SHARE * peak), runs.watts
            tokens = runs.runs[0].tokens_per_caption
            bytes_per_parameter = FP32_BYTES if runs.where.precision == "fp32" else 2
            if device is not None:
                limit_bytes = USABLE * device.memory_bytes
                per_node = self._cluster.links.gpus_per_node
                largest = estimate_max_batch(experiment, self._records, limit_bytes, weights, self.gpus, per_node)
        else:
            assert device is not None
            utilisation = self._utilisation
            (compute, tokens), watts = (
                estimate_compute_profile(experiment, device, utilisation.value, self.results),
                device.watts,
            )
            ends = (
                () if self.utilisation else (utilisation.low / utilisation.value, utilisation.high / utilisation.value)
            )
        batch = experiment.mean_batch_size
        case = PlanCase(experiment.name, weights, compute, batch, experiment.runtime.sharding, bytes_per_parameter)
        images = experiment.training.images if self.images is None else parse_count(self.images)
        found = []
        for times in (1.0, *ends):
            step = plan_step(replace(case, compute=compute.speed_up(times)), self._cluster, self.gpus, self.batch)
            found.append((step, training_cost(step, images, self.price, watts)))
        curve = scaling_curve(case, self._cluster, self.gpus, self.batch)
        basis = "assumed" if runs is None else "measured"
        return PlanResult(case, basis, tokens, *found[0], curve, largest, found[1:])

    def _assumptions(self) -> dict[str, tuple[str, str]]:
        """Return the value and the source of each assumption."""
        device, rows = self._device, dict[str, tuple[str, str]]()
        for experiment in self._experiments:
            if (runs := self._timed_runs(experiment)) is not None:
                timed, name = runs.experiment, experiment.name
                basis = f"measured: {len(runs.runs)} runs, batch {timed.training.batch_size}, {runs.where.precision}"
                rows[f"step of {name}"] = (basis, runs.where.machine)
                if runs.watts is not None:
                    rows[f"power, {name}"] = (f"{runs.watts:.0f} W, constant", "measured, by the energy counter")
        if self.device is not None and device is not None:
            source = "given" if self.utilisation else f"plan --published, for the size of {self._experiments[0].name}"
            peak = f"{self._utilisation.value:.3f} of {device.bf16_flops / 1e12:g} TFLOP/s, bf16 ({device.source})"
            rows["utilisation"] = (peak, f"assumed, not a measurement: {source}")
            rows["power of a GPU"] = (f"{device.watts:g} W, constant", device.source)
        rows["captions"] = (describe_captions(self._experiments), "--caption-lengths, or the data")
        for option, title in INTERCONNECT.items():
            value, source = self._interconnect[option]
            rows[title] = (f"{value:.4g}{UNITS.get(option.rpartition('_')[2], '')}", source)
        overlap = f"hidden behind {self.overlap:.0%} of forward and backward"
        rows["communication of gradients and weights"] = (overlap, "--overlap")
        rows["communication of features"] = ("not hidden: the loss waits for it", "losses/collectives.py")
        rows["loss with additional captions"] = (f"{LOSS_SHARE:.0%} of the peak of its precision", "assumed")
        rows["computation"] = ("proportional to the number of images", "assumed, within the memory limit")
        rows["not modelled"] = ("waiting for slow GPUs and for data, stalls, restarts, scoring, power of hosts", "")
        return rows
