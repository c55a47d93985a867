"""The verb `plan`: what a training would take on many GPUs, with what the answer rests on."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from bench.cli.options import Json, Results, Settings
from bench.cli.train import number_of
from bench.config import Experiment, choose, with_settings
from bench.console.exit_codes import DISAGREEMENT, FAILED_CASE, OK
from bench.console.tables import show
from bench.environment.gpu_specs import DEVICES, GB, Device, device_called
from bench.experiments import EXPERIMENTS, experiment_named
from bench.plan.collectives import FP32, LINK_SHARE, LINK_US, NETWORK_US, Links
from bench.plan.model import LOSS_SHARE, OVERLAP, Case, Cluster, assumed_compute, cost_of, curve, step_on
from bench.plan.published import published_utilisation
from bench.plan.records import Timed, compute_of, largest_batch, records_at, timed
from bench.plan.tables import (
    Planned,
    assumption_table,
    curve_table,
    plan_table,
    published_table,
    sent_table,
)
from bench.record import Record

MICRO = 1e-6
USABLE = 0.9  # of a GPU's memory: the rest is the context's, the kernels' and what an allocator cannot use


@dataclass(frozen=True)
class Plan:
    """Foretell steps, GPU-hours and money on many GPUs: from one device's records, or from an assumed utilisation.

    What the answer rests on is printed with it. From a record a step is measured and the rest is a model; from a
    utilisation all is an assumption.
    """

    names: Positional[tuple[str, ...]] = ()
    gpus: int = 64
    images: Annotated[
        str | None, arg(metavar="N", help="to see, as 80000, 80k or 12.8B; by default each experiment's")
    ] = None
    record: Annotated[Path | None, arg(help="a speed record of one device, or a folder of records")] = None
    device: Annotated[str | None, arg(help=f"instead of a record: {', '.join(DEVICES)}")] = None
    # Of that device's bf16 peak, what is sent not counted; by default the median of published CLIP trainings.
    utilisation: float | None = None
    batch: int | None = None  # images a step of all GPUs; by default each has the experiment's batch_size
    price: float | None = None  # of a GPU-hour
    overlap: float = OVERLAP  # share of forward and backward behind which gradients and weights can be sent
    per_node: int | None = None  # GPUs; the device's by default, as what follows
    link_gbs: float | None = None  # GB/s of a GPU to those of its node, in one direction, as collectives reach them
    link_us: float = LINK_US  # latency
    network_gbs: float | None = None  # GB/s of a GPU to other nodes
    network_us: float = NETWORK_US  # latency
    check: int | None = None  # instead: run on so many CPU processes here, and hold the plan against it
    published: bool = False  # instead: hold the plan against published trainings
    settings: Settings = ()
    results: Results = Path("results")
    json: Json = None
    how_to_go_on = "nothing was lost"

    def run(self) -> int:
        """Plan, or check the plan."""
        self._require_sound()
        if self.published:
            latencies = MICRO * self.link_us, MICRO * self.network_us
            show([published_table(self.utilisation, latencies, self.overlap)], self.json)
            return OK
        if not self.names:
            raise ValueError(f"name the experiments to plan for (there are {', '.join(EXPERIMENTS)})")
        if self.check is not None:
            return self._check(self.check)
        if (self.record is None) == (self.device is None):
            raise ValueError("a plan begins with --record FILE, measured, or with --device NAME, assumed: give one")
        plans = [self._planned(experiment) for experiment in self._experiments]
        tables = [plan_table(plans, self.gpus), sent_table(plans, self._cluster), curve_table(plans)]
        show([*tables, assumption_table(self._assumptions())], self.json)
        return OK

    def _check(self, processes: int) -> int:
        from bench.orchestration.plan_validation import RunFailed, check

        experiments = dict(zip(dict.fromkeys(self.names), self._experiments, strict=True))
        try:
            table, agrees = check(experiments, self.settings, processes, self.results)
        except RunFailed as failure:
            print(f"FAILED {failure}", file=sys.stderr)
            return FAILED_CASE
        show([table], self.json)
        return OK if agrees else DISAGREEMENT

    def _require_sound(self) -> None:
        positive = ("gpus", "batch", "price", "per_node", "link_gbs", "network_gbs", "link_us", "network_us")
        for name in positive:
            if (value := getattr(self, name)) is not None and not 0 < value < float("inf"):
                raise ValueError(f"--{name.replace('_', '-')} must be positive, got {value}")
        if not 0 <= self.overlap <= 1:
            raise ValueError(f"--overlap is a share of 1, got {self.overlap}")
        if self.utilisation is not None and not 0 < self.utilisation <= 1:
            raise ValueError(f"--utilisation is a share of 1, above 0, got {self.utilisation}")
        if self.check is not None and self.check < 2:  # noqa: PLR2004
            raise ValueError(f"--check takes two processes or more, got {self.check}")
        if self.batch is not None and self.batch < self.gpus:
            raise ValueError(f"--batch is of all GPUs: each of {self.gpus} needs an image or more, got {self.batch}")

    @cached_property
    def _experiments(self) -> Sequence[Experiment]:
        return [with_settings(experiment_named(name), self.settings) for name in dict.fromkeys(self.names)]

    @cached_property
    def _records(self) -> Sequence[Record]:
        return [] if self.record is None else records_at(self.record, self._experiments)

    def _timed(self, experiment: Experiment) -> Timed | None:
        return None if self.record is None else timed(experiment, self._records, self.record)

    @cached_property
    def _device(self) -> Device | None:
        """What data sheets say of the device: the one that is named, or that was recorded."""
        if self.device is not None:
            return choose(self.device.lower(), DEVICES, "device")
        runs = self._timed(self._experiments[0])
        return device_called(runs.where.machine) if runs is not None and runs.where.device == "cuda" else None

    @cached_property
    def _cluster(self) -> Cluster:
        device = self._device
        per_node, link, network = self.per_node, self.link_gbs, self.network_gbs
        if device is not None:
            per_node, link = per_node or device.per_node, link or LINK_SHARE * device.link / GB
            network = network or (None if device.network is None else LINK_SHARE * device.network / GB)
        if per_node is None or link is None or network is None:
            asked = {"--per-node": per_node, "--link-gbs": link, "--network-gbs": network}
            unknown = ", ".join(option for option, value in asked.items() if value is None)
            what = self.device or "the device of the record"
            raise ValueError(f"how {what} is joined to others is on no data sheet: give {unknown}")
        links = Links(per_node, GB * link, MICRO * self.link_us, GB * network, MICRO * self.network_us)
        return Cluster(links, self.overlap)

    def _planned(self, experiment: Experiment) -> Planned:
        from bench.plan.workload import needs_of

        needs, runs, device = needs_of(experiment), self._timed(experiment), self._device
        if runs is not None:
            compute, watts = compute_of(runs, self._loss_flops(runs)), runs.watts
            bytes_a_weight = 2 if runs.where.precision == "bf16" else FP32
        else:
            assert device is not None
            compute, watts, bytes_a_weight = assumed_compute(needs.work, device, self._share), device.watts, 2
        batch = experiment.mean_batch_size
        case = Case(experiment.name, needs.weights, compute, batch, experiment.sharding, bytes_a_weight)
        step = step_on(case, self._cluster, self.gpus, self.batch)
        images = experiment.images if self.images is None else number_of(self.images)
        largest: tuple[int | None, str] = (
            None,
            "not estimated without memory records of one GPU, which --record reads",
        )
        if device is not None and runs is not None:
            limit = USABLE * device.memory
            largest = largest_batch(experiment, self._records, limit, needs.weights, self.gpus)
        return Planned(
            case,
            "assumed" if runs is None else "measured",
            step,
            cost_of(step, images, self.price, watts),
            curve(case, self._cluster, self.gpus, self.batch),
            largest,
        )

    @cached_property
    def _share(self) -> float:
        return self.utilisation or published_utilisation()

    def _loss_flops(self, runs: Timed) -> float:
        peak = runs.runs[0].peak_flops_per_second if runs.where.device == "cpu" else None
        if self._device is not None:
            peak = self._device.fp32
        if peak is None:
            raise ValueError(f"no fp32 peak is known of {runs.where.machine}")
        return LOSS_SHARE * peak

    def _assumptions(self) -> dict[str, tuple[str, str]]:
        """Say what the answer rests on: value, and where it is from."""
        links, found = self._cluster.links, self._of_the_steps()
        found["GPUs a node"] = (str(links.per_node), "given" if self.per_node else "data sheet")
        for what, rate, latency, is_given, usual in (
            ("links in a node", links.link, links.link_latency, self.link_gbs, LINK_US),
            ("network", links.network, links.network_latency, self.network_gbs, NETWORK_US),
        ):
            of_rate = "given" if is_given else f"data sheet x {LINK_SHARE}, as nccl-tests reach on A100"
            of_latency = "NCCL's own" if latency == MICRO * usual else "given"
            found[what] = (f"{rate / GB:.4g} GB/s a GPU, one way", of_rate)
            found[f"{what}, latency"] = (f"{latency / MICRO:g} us a step of a ring", of_latency)
        found["gradients and weights hide"] = (f"behind {self.overlap:.0%} of forward and backward", "--overlap")
        found["features hide"] = ("never: the loss waits for them", "losses/collectives.py")
        found["loss with further captions"] = (f"{LOSS_SHARE:.0%} of the fp32 peak", "assumed")
        found["computation"] = ("in proportion to the images", "assumed, where memory holds them")
        found["left out"] = ("waiting for slow GPUs and for data, stalls, restarts, scoring, power of hosts", "")
        return found

    def _of_the_steps(self) -> dict[str, tuple[str, str]]:
        device, found = self._device, dict[str, tuple[str, str]]()
        for experiment in self._experiments:
            if (runs := self._timed(experiment)) is not None:
                found |= _of_runs(experiment.name, runs)
        if self.device is not None and device is not None:
            named = "given" if self.utilisation else "median of plan --published, what is sent taken off"
            told = f"{self._share:.3f} of {device.bf16 / 1e12:g} TFLOP/s, bf16 ({device.source})"
            found["utilisation"] = (told, f"assumed, no evidence: {named}")
            found["power of a GPU"] = (f"{device.watts:g} W all the time", device.source)
            found["captions"] = ("as long as the context", "assumed; shorter ones: --set context_length=N")
        return found


def _of_runs(name: str, runs: Timed) -> dict[str, tuple[str, str]]:
    told = [f"measured: {len(runs.runs)} runs, batch {runs.experiment.batch_size}, {runs.where.precision}"]
    if (tokens := runs.runs[0].tokens_per_caption) is not None:
        told.append(f"{tokens:.1f} tokens a caption")
    found = {f"step of {name}": (", ".join(told), runs.where.machine)}
    if runs.watts is not None:
        found[f"power, {name}"] = (f"{runs.watts:.0f} W all the time", "measured, by the energy counter")
    return found
