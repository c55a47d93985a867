"""The verb `plan`: predicts step time, GPU-hours and price of a training on many GPUs, and lists the assumptions."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from bench.cli.options import (
    ExperimentNames,
    Json,
    OptionalFolder,
    Settings,
    find_experiments_with_settings,
)
from bench.cli.train import ImagesSeen, parse_image_count
from bench.console.console import OK
from bench.console.options import require_option_in_range
from bench.console.tables import print_tables
from bench.data.caption_lengths import describe_captions_that_runs_read
from bench.environment.gpu_specs import GPU_SPECS, GpuSpec, find_gpu_spec
from bench.experiment.config import Experiment, look_up
from bench.experiment.experiments import EXPERIMENTS
from bench.features.plan.collectives import FP32_BYTES
from bench.features.plan.interconnect import Interconnect, interconnect_from_data_sheet
from bench.features.plan.model import (
    PUBLISHED_ERROR,
    UTILISATION,
    PlanInputs,
    assume_loss_flops_per_second,
    compute_profile_from_flops,
    predict_step_seconds,
)
from bench.features.plan.records import (
    TimedRunsOnOneDevice,
    compute_profile_from_runs,
    estimate_max_batch_per_gpu,
    find_runs_of_nearest_batch,
    read_newest_timed_records,
)
from bench.features.plan.tables import (
    ASSUMED_NOTE,
    MODEL_ASSUMPTIONS,
    PlanResult,
    assumption_table,
    communication_table,
    describe_interconnect,
    plan_table,
)
from bench.records.record import Record

# Least and largest number that an option takes: beyond, figures have no meaning, or no finite value.
LEAST = 1e-9
MOST = 1e12
USABLE = 0.9  # share of a GPU's memory: the rest is for context, kernels and fragmentation
HALF_PRECISION_BYTES = 2


@dataclass(frozen=True)
class PredictScaling:
    """Predict step time, GPU-hours and price on many GPUs, from one device's records or an assumed utilisation.

    A prediction from records combines a measured step with a communication model; one from a utilisation is an
    assumption, not a measurement. All assumptions are printed.
    """

    names: Positional[ExperimentNames] = ()  # names of the experiments (see `list`)
    gpus: int = 64  # number of GPUs that train together
    images_seen: ImagesSeen = None
    # folder with records of `measure` on one GPU, such as results, whose newest step time is taken; this
    # or --assumed-gpu is required
    records: OptionalFolder = None
    assumed_gpu: Annotated[
        str | None,
        arg(
            metavar="GPU",
            help="GPU whose step time is assumed from --assumed-gpu-mfu, in place of --records: "
            + ", ".join(GPU_SPECS),
        ),
    ] = None
    # with --assumed-gpu: share, from 0 to 1, of the GPU's bf16 peak that a step reaches without communication;
    # default: the mean of published CLIP trainings
    assumed_gpu_mfu: float | None = None
    # price of one GPU-hour, in any currency; the price of the training is then shown
    price_per_hour: float | None = None
    # network bandwidth between nodes, in GB/s per GPU and direction; default: 80 % of the data sheet's
    internode_gbs_per_gpu: float | None = None
    settings: Settings = ()
    json: Json = None

    def run(self) -> int:
        """Predict, and print the tables."""
        self._require_valid_options()
        experiments = find_experiments_with_settings(self.names, self.settings)
        for experiment in experiments:
            if experiment.optimizer.optimizer != "adamw":
                raise ValueError(f"{experiment.name}: plan knows optimizer=adamw alone")
        records: list[Record] = []
        timed_runs: list[TimedRunsOnOneDevice] = []
        if self.records is not None:
            records = read_newest_timed_records(self.records, experiments)
            timed_runs = [
                find_runs_of_nearest_batch(experiment, records) for experiment in experiments
            ]
        gpu = self._find_named_or_recorded_gpu(timed_runs)
        links = interconnect_from_data_sheet(gpu, self.internode_gbs_per_gpu)
        plans = []
        for number, experiment in enumerate(experiments):
            timed = timed_runs[number] if timed_runs else None
            plans.append(self._plan_experiment(experiment, timed, records, gpu, links))
        assumptions = self._describe_step_time_assumptions(timed_runs, gpu)
        assumptions["captions"] = describe_captions_that_runs_read(
            experiment.input for experiment in experiments
        )
        note = "" if self.assumed_gpu is None else ASSUMED_NOTE
        if self.assumed_gpu is not None and self.assumed_gpu_mfu is None:
            note += f"\n{PUBLISHED_ERROR}"
        tables = [
            plan_table(plans, self.price_per_hour, note),
            communication_table(plans, links),
            assumption_table(assumptions | describe_interconnect(links) | MODEL_ASSUMPTIONS),
        ]
        print_tables(tables, self.json)
        return OK

    def _require_valid_options(self) -> None:
        """Raise ValueError for a number out of range, and without experiments or a source of their step time."""
        for name in ("gpus", "price_per_hour", "internode_gbs_per_gpu"):
            require_option_in_range(name.replace("_", "-"), getattr(self, name), LEAST, MOST)
        require_option_in_range("assumed-gpu-mfu", self.assumed_gpu_mfu, LEAST, 1)
        if not self.names:
            raise ValueError(f"name the experiments to plan (there are {', '.join(EXPERIMENTS)})")
        if (self.records is None) == (self.assumed_gpu is None):
            raise ValueError(
                "a plan needs either --records FOLDER (measured) or --assumed-gpu GPU (assumed): give one"
            )
        if self.assumed_gpu_mfu is not None and self.assumed_gpu is None:
            raise ValueError(
                "--assumed-gpu-mfu needs --assumed-gpu: with --records the step is measured"
            )

    def _find_named_or_recorded_gpu(self, timed_runs: Sequence[TimedRunsOnOneDevice]) -> GpuSpec:
        """Return the data sheet of the named or the recorded GPU; ValueError for a CPU and an unknown GPU."""
        if self.assumed_gpu is not None:
            return look_up(self.assumed_gpu.lower(), GPU_SPECS, "device")
        circumstances = timed_runs[0].circumstances
        gpu = find_gpu_spec(circumstances.machine.partition(";")[0])  # the CPU's name follows
        if circumstances.device != "cuda" or gpu is None:
            raise ValueError(
                f"a plan needs a GPU of a known data sheet, got {circumstances.machine}"
            )
        return gpu

    def _plan_experiment(
        self,
        experiment: Experiment,
        timed: TimedRunsOnOneDevice | None,
        records: Sequence[Record],
        gpu: GpuSpec,
        links: Interconnect,
    ) -> PlanResult:
        """Plan from the measured step of one GPU, or from FLOPs at an assumed utilisation if `timed` is None."""
        from bench.features.plan.workload import (
            count_communicated_parameters,
            count_forward_flops_per_pair,
            mean_tokens_per_caption,
            read_first_caption_batches,
        )

        parameter_counts = count_communicated_parameters(experiment)
        runtime = experiment.runtime
        bytes_per_parameter = HALF_PRECISION_BYTES
        max_images_per_gpu = None
        if timed is None:
            captions = read_first_caption_batches(experiment, Path("results"))
            work = count_forward_flops_per_pair(experiment, captions)
            compute = compute_profile_from_flops(
                work,
                gpu,
                self.assumed_gpu_mfu or UTILISATION,
                runtime.clip_loss_precision,
            )
            tokens = mean_tokens_per_caption(captions)
        else:
            loss_rate = assume_loss_flops_per_second(gpu, runtime.clip_loss_precision)
            compute = compute_profile_from_runs(timed, loss_rate)
            tokens = timed.runs[0].tokens_per_caption
            limit_bytes = USABLE * gpu.memory_bytes
            max_images_per_gpu = estimate_max_batch_per_gpu(
                experiment, records, limit_bytes, parameter_counts, self.gpus
            )
            if timed.circumstances.precision == "fp32":
                bytes_per_parameter = FP32_BYTES
        inputs = PlanInputs(
            name=experiment.name,
            parameter_counts=parameter_counts,
            compute=compute,
            images_per_gpu=experiment.mean_device_batch_size,
            sharding=runtime.sharding,
            bytes_per_parameter=bytes_per_parameter,
        )
        images = (
            experiment.training.images_seen
            if self.images_seen is None
            else parse_image_count(self.images_seen)
        )
        return PlanResult(
            inputs=inputs,
            step=predict_step_seconds(inputs, links, self.gpus),
            is_measured=timed is not None,
            tokens_per_caption=tokens,
            images=images,
            max_images_per_gpu=max_images_per_gpu,
        )

    def _describe_step_time_assumptions(
        self, timed_runs: Sequence[TimedRunsOnOneDevice], gpu: GpuSpec
    ) -> dict[str, str]:
        """Return rows of the table of assumptions by name: the sources of step times, and the assumed utilisation."""
        rows = {}
        for timed in timed_runs:
            circumstances = timed.circumstances
            rows[f"step of {timed.experiment.name}"] = (
                f"measured in {len(timed.runs)} runs, batch {timed.experiment.training.batch_size}, "
                f"{circumstances.precision}; {circumstances.machine}"
            )
        if self.assumed_gpu is not None:
            utilisation = self.assumed_gpu_mfu or UTILISATION
            source = "given" if self.assumed_gpu_mfu else "the mean of published CLIP trainings"
            peak = f"{gpu.bf16_flops_per_second / 1e12:g} TFLOP/s, bf16 ({gpu.source})"
            rows["utilisation"] = f"{utilisation:.3f} of {peak}: {source}"
        return rows
