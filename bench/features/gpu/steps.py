"""The steps of `bench gpu`, as data, and what each left: a command line of python in a child process."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import geometric_mean, median
from typing import Literal

import msgspec

from bench.console.console import FAILED_CASE, INCONCLUSIVE, OK
from bench.environment.circumstances import current_commit
from bench.environment.files import atomic_write, decode_json, prefix_errors, read_intact_files, read_limited
from bench.measure.throughput import images_per_second
from bench.records.record import Record, Speed, read_record, record_files
from bench.train.checkpoints import list_checkpoints

STEPS_FILE = "gpu.json"
Device = Literal["cuda", "cpu"]
Status = Literal["ok", "unfinished", "failed", "timeout", "skipped"]


@dataclass(frozen=True, slots=True)
class Step:
    """A command line of python. In it, {results} is the results folder, {folder} the step's own folder in it.

    {resume} becomes --resume where the folder holds records of a run that was cut short, {limit} the --max-minutes that
    are left, {gpus} the number of GPUs, and {batch} the batch size at which the pair of experiments in the folders
    `batch_size_folders` was fastest.
    """

    name: str
    command: str
    minutes: float | None = None  # that it takes with its page; None: those that its verb expects at a pace
    folder: str = ""  # name of the folder of its records; default: the step's name
    batch_size_folders: tuple[str, ...] = ()
    min_gpus: int = 1
    accepted: tuple[int, ...] = (OK,)  # exit codes of success

    @property
    def can_be_continued(self) -> bool:
        """Whether it ends in time with runs left."""
        return "{limit}" in self.command


@dataclass(frozen=True, slots=True)
class Pair:
    """CLIP and CatLIP at a scale, as steps measure them."""

    name: str  # of the steps
    scale: str  # of the experiments
    settings: str = ""
    batches: tuple[int, ...] = ()  # that are tried beside the experiments' own

    @property
    def measure(self) -> str:
        """Return the command line that measures the pair, and continues where it stopped."""
        return f"-m bench measure clip-{self.scale} catlip-{self.scale} {self.settings} {CONTINUED}"

    @property
    def steps_at_other_batch_sizes(self) -> list[Step]:
        """Return a step for each other batch."""
        sized = {f"{self.name}-{size}": f"{self.measure} {ONE} --set batch_size={size}" for size in self.batches}
        return [Step(name, command, accepted=MAY_NOT_FIT) for name, command in sized.items()]

    def steps_at_best_batch_size(self, rounds: int) -> list[Step]:
        """Return the steps at the batch with the most images/s: a round with traces, and the rounds of a verdict."""
        tried, best = (self.name, *(step.name for step in self.steps_at_other_batch_sizes)), f"{self.name}-best"
        command = f"{self.measure} --set batch_size={{batch}}"
        return [
            Step(best, f"{command} {ONE} --trace", batch_size_folders=tried),
            Step(f"{best}-verdict", f"{command} --rounds {rounds}", folder=best, batch_size_folders=(best,)),
        ]


@dataclass(frozen=True, slots=True)
class StepChoices:
    """What the steps on a device measure."""

    device: Device
    first: Pair
    second: Pair
    rounds: int  # for a verdict
    factors: str  # of the ladder
    images: int  # JPEGs that are generated
    reference: str  # options of the comparison with open_clip
    tests: str  # command line
    network: str = ""  # option of the plan, for a device without a data sheet


RANKS = "-m torch.distributed.run --standalone --nproc-per-node {gpus}"
CONTINUED = "--results {folder} {resume} {limit}"
ONE = "--rounds 1"
LIGHT = "--set warmup_steps=2 --set windows=2 --set steps_per_window=2"  # seconds, and figures that mean nothing
MAY_NOT_FIT = (OK, FAILED_CASE)  # a batch without room in memory is an answer, which the page shows
NO_INTERVAL = (OK, INCONCLUSIVE)  # two rounds of a ladder have none


def make_steps(of: StepChoices) -> tuple[Step, ...]:
    """Return the steps in their order: what a verdict needs first, what only tries a verb last.

    Minutes are those of a GPU: a process starts in about 12 s, and the tests compile in as many more.
    """
    first, second, verdict = of.first, of.second, f"--rounds {of.rounds}"
    pair = f"clip-{first.scale} catlip-{first.scale}"
    ladder = f"-m bench explain catlip-{first.scale} --baseline clip-{first.scale} --factors {of.factors}"
    plan = f"-m bench plan {pair} --gpus {{gpus}} --results {{folder}} --json {{folder}}/plan.json"
    known = f"--record {{results}}/{first.name} --links {{results}}/link/links {of.network}"
    trace = f"-m bench measure clip-tiny catlip-tiny {ONE} {LIGHT} --results {{folder}} --trace"
    transfer = "-m bench transfer catlip-tiny --task rooms --protocol k-nn"
    return (
        Step("preflight", f"-m bench.features.gpu.preflight {of.device}", 1),
        Step("tests", of.tests, 5),
        Step(first.name, f"{first.measure} {ONE}"),
        Step(f"{first.name}-verdict", f"{first.measure} {verdict}", folder=first.name),
        Step(second.name, f"{second.measure} {ONE}"),
        Step(f"{second.name}-verdict", f"{second.measure} {verdict}", folder=second.name),
        Step(f"{first.name}-ladder", f"{ladder} {first.settings} --rounds 2 {CONTINUED}", accepted=NO_INTERVAL),
        Step("shards", f"-m bench.measure.generated_shards {{folder}} {of.images}", 2),
        Step(f"{first.name}-shards", f"{first.measure} {ONE} --data {{results}}/shards"),
        *first.steps_at_other_batch_sizes,
        *second.steps_at_other_batch_sizes,
        *first.steps_at_best_batch_size(of.rounds),
        *second.steps_at_best_batch_size(of.rounds),
        Step("link", f"{RANKS} -m bench doctor --results {{folder}}", 1, min_gpus=2),
        Step(f"{first.name}-ddp", f"{RANKS} {first.measure} {ONE}", min_gpus=2),
        Step(f"{first.name}-fsdp2", f"{RANKS} {first.measure} {ONE} --set sharding=fsdp2", min_gpus=2),
        Step("plan", f"{plan} {known}", 1, folder=f"{first.name}-ddp", min_gpus=2),
        Step("trace", trace),
        Step("train", "-m bench train catlip-tiny --images 2048 --task rooms --out {folder} {resume}"),
        Step("transfer", f"{transfer} --results {{folder}}", folder="train"),
        Step("export", "-m bench export catlip-tiny --results {results}/train --out {folder}"),
        Step("embed", "-m bench embed distill-tiny --out {folder}/features.safetensors --results {folder}"),
        Step("doctor", "-m bench doctor"),
        Step("open-clip", f"-m bench reference open-clip {of.reference} {CONTINUED}"),
    )


STEPS: dict[Device, tuple[Step, ...]] = {
    "cuda": make_steps(
        StepChoices(
            device="cuda",
            first=Pair("b16", "vit-b16", batches=(512, 1024)),
            second=Pair("l14", "vit-l14", batches=(256,)),
            rounds=5,
            factors="kernel checkpointing batch compile",
            images=20 * 1024,
            reference="--set batch_size=256 --rounds 2",
            tests="-m pytest tests/gpu tests/profilers -q -m gpu -p no:randomly",
        )
    ),
    "cpu": make_steps(
        StepChoices(
            device="cpu",
            first=Pair("tiny", "tiny", LIGHT, batches=(32, 64)),
            second=Pair("larger", "tiny", f"{LIGHT} --set image_size=96", batches=(64,)),
            rounds=2,
            factors="kernel checkpointing batch",
            images=256,
            reference="--name clip-tiny --rounds 1",
            tests="-m pytest tests/gpu -q -m 'not gpu' -p no:randomly",
            network="--network-gbs 1",
        )
    ),
}


class StepResult(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a step ended; steps that were not reached have none."""

    step: str
    status: Status
    seconds: float
    command: str  # as a person types it
    last_lines: tuple[str, ...]  # of its output, or why it was skipped


class StepResults(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The steps that have ended, in the order of the table."""

    device: Device
    steps: tuple[StepResult, ...] = ()


def read_step_results(path: Path, device: Device) -> dict[str, StepResult]:
    """Return the results of earlier calls by step; ValueError if they are of the other device, or damaged."""
    if not path.exists():
        return {}
    with prefix_errors(path):
        found = decode_json(read_limited(path), StepResults)
    if found.device != device:
        raise ValueError(f"{path} is of --device {found.device}, not {device}: name another folder with --results")
    return {one.step: one for one in found.steps}


def write_step_results(path: Path, device: Device, results: Mapping[str, StepResult]) -> None:
    """Write atomically the results of the steps that have ended."""
    in_order = tuple(results[step.name] for step in STEPS[device] if step.name in results)
    with atomic_write(path) as temporary:
        content = msgspec.json.encode(StepResults(device=device, steps=in_order))
        temporary.write_bytes(msgspec.json.format(content, indent=1))


def is_resumable(folder: Path) -> bool:
    """Return whether `--resume` continues what a folder holds: a checkpoint, or a newest comparison of this commit."""
    return bool(list_checkpoints(folder / "checkpoints")) or bool(_newest_records(folder))


def batch_size_to_resume(folder: Path) -> int | None:
    """Return the batch size of what `--resume` continues in a folder; None where it continues nothing."""
    return next(
        (one.experiment.training.batch_size for one in _newest_records(folder) if one.experiment is not None), None
    )


def fastest_batch_size(folders: Sequence[Path]) -> int | None:
    """Return the batch size of most images/s, as the geometric mean of the two methods; None without such records."""
    rates = defaultdict[int, dict[str, list[float]]](lambda: defaultdict(list))
    for folder in folders:
        for record in _intact_records(folder):
            if isinstance(record.measured, Speed) and (experiment := record.experiment) is not None:
                rate = images_per_second(experiment, record.measured)
                rates[experiment.training.batch_size][experiment.method].append(rate)
    pairs = {size: geometric_mean(map(median, of.values())) for size, of in rates.items() if len(of) > 1}
    return max(pairs, key=lambda size: pairs[size], default=None)


def _newest_records(folder: Path) -> list[Record]:
    """Return the records of a folder's newest comparison if they are of this commit."""
    records = _intact_records(folder)
    newest = max((one.comparison for one in records), default="")
    found = [one for one in records if one.comparison == newest]
    return found if {one.circumstances.commit for one in found} == {current_commit()} else []


def _intact_records(folder: Path) -> list[Record]:
    return read_intact_files(record_files(folder), read_record)[0]
