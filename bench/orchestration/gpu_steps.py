"""The steps of `bench gpu`, as data, and what each left: a command line of python in a child process."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import geometric_mean, median
from typing import Literal

import msgspec

from bench.console.console import INCONCLUSIVE, OK
from bench.environment.circumstances import current_commit
from bench.environment.files import atomic_write, decode_json, prefix_errors, read_intact_files, read_limited
from bench.measure.throughput import images_per_second
from bench.record import Record, Speed, read_record, record_files
from bench.train.checkpoints import list_checkpoints

STEPS_FILE = "gpu.json"
Device = Literal["cuda", "cpu"]
Status = Literal["ok", "failed", "timeout", "skipped"]


@dataclass(frozen=True, slots=True)
class Step:
    """A command line of python. In it, {results} is the results folder, {folder} the step's own folder in it.

    {resume} becomes --resume where the folder holds records of a run that was cut short, {gpus} the number of GPUs, and
    {batch} the batch size at which the pair of experiments in the folders `batch_from` was fastest.
    """

    name: str
    minutes: float  # that it is expected to take
    command: str
    folder: str = ""  # name of the folder of its records; default: the step's name
    batch_from: tuple[str, ...] = ()
    min_gpus: int = 1
    accepted: tuple[int, ...] = (OK,)  # exit codes of success


PAIR = "-m bench measure clip-{0} catlip-{0} --results {{folder}}"
B16, L14, TINY = (PAIR.format(scale) for scale in ("vit-b16", "vit-l14", "tiny"))
ONCE, TWICE, MORE = "--rounds 1 {resume}", "--rounds 2 {resume}", "--rounds 5 --resume"
LIGHT = "--set warmup_steps=2 --set windows=2 --set steps_per_window=2"  # seconds, and figures that mean nothing
RANKS = "-m torch.distributed.run --standalone --nproc-per-node {gpus}"
BEST = "--set batch_size={batch}"
LADDER = "-m bench explain catlip-{0} --baseline clip-{0} --results {{folder}} --rounds 2 {{resume}}"
FACTORS = "--factors kernel checkpointing batch"
PLAN = "-m bench plan clip-vit-b16 catlip-vit-b16 --gpus {gpus} --results {folder} --json {folder}/plan.json"
LINK = f"{RANKS} -m bench doctor --results {{folder}}"
NO_INTERVAL = (OK, INCONCLUSIVE)  # two rounds of a ladder have none

# Steps that try every verb that computes on the device.
TRIALS = (
    Step("doctor", 0.5, "-m bench doctor"),
    Step("trace", 1, f"{TINY} {ONCE} --trace {LIGHT}"),
    Step("train", 0.5, "-m bench train catlip-tiny --images 2048 --task rooms --out {folder} {resume}"),
    Step("transfer", 0.5, "-m bench transfer catlip-tiny --task rooms --protocol k-nn --results {folder}", "train"),
    Step("export", 0.25, "-m bench export catlip-tiny --results {results}/train --out {folder}"),
    Step("embed", 0.25, "-m bench embed distill-tiny --out {folder}/features.safetensors --results {folder}"),
)
STEPS: Mapping[Device, Sequence[Step]] = {
    "cuda": (
        Step("preflight", 0.5, "-m bench.cli.gpu_preflight cuda"),
        Step("tests", 3, "-m pytest tests -q -m gpu -p no:randomly"),
        *TRIALS,
        Step("b16", 5, f"{B16} {TWICE}"),
        Step("l14", 5, f"{L14} {TWICE}"),
        Step("b16-512", 2, f"{B16} {ONCE} --set batch_size=512"),
        Step("b16-1024", 2, f"{B16} {ONCE} --set batch_size=1024"),
        Step("l14-256", 2, f"{L14} {ONCE} --set batch_size=256"),
        Step("b16-best", 3, f"{B16} {TWICE} {BEST} --trace", batch_from=("b16", "b16-512", "b16-1024")),
        Step("l14-best", 3, f"{L14} {TWICE} {BEST} --trace", batch_from=("l14", "l14-256")),
        Step("b16-ladder", 8, f"{LADDER.format('vit-b16')} {FACTORS} precision compile", accepted=NO_INTERVAL),
        Step("open-clip", 2, "-m bench reference open-clip --set batch_size=256 --rounds 2 --results {folder}"),
        Step("link", 0.5, LINK, min_gpus=2),
        Step("b16-ddp", 3, f"{RANKS} {B16} {TWICE}", min_gpus=2),
        Step("b16-fsdp2", 3, f"{RANKS} {B16} {TWICE} --set sharding=fsdp2", min_gpus=2),
        Step("plan", 0.5, f"{PLAN} --record {{results}}/b16 --links {{results}}/link/links", "b16-ddp", min_gpus=2),
        Step("b16-more", 4, f"{B16} {MORE}", "b16"),
        Step("b16-best-more", 4, f"{B16} {MORE} {BEST}", "b16-best", batch_from=("b16-best",)),
        Step("l14-best-more", 4, f"{L14} {MORE} {BEST}", "l14-best", batch_from=("l14-best",)),
    ),
    "cpu": (
        Step("preflight", 0.5, "-m bench.cli.gpu_preflight cpu"),
        Step("tests", 1, "-m pytest tests/gpu -q -m 'not gpu' -p no:randomly"),
        *TRIALS,
        Step("tiny", 0.75, f"{TINY} {TWICE} {LIGHT}"),
        Step("larger", 0.75, f"{TINY} {TWICE} {LIGHT} --set image_size=96"),
        Step("tiny-64", 0.5, f"{TINY} {ONCE} {LIGHT} --set batch_size=64"),
        Step("tiny-best", 0.75, f"{TINY} {TWICE} {LIGHT} {BEST} --trace", batch_from=("tiny", "tiny-64")),
        Step("tiny-ladder", 1, f"{LADDER.format('tiny')} {FACTORS} {LIGHT}", accepted=NO_INTERVAL),
        Step("open-clip", 0.5, "-m bench reference open-clip --name clip-tiny --rounds 1 --results {folder}"),
        Step("link", 0.25, LINK),
        Step("tiny-ddp", 0.5, f"{RANKS} {TINY} {TWICE} {LIGHT}"),
        Step("tiny-fsdp2", 0.5, f"{RANKS} {TINY} {TWICE} {LIGHT} --set sharding=fsdp2"),
        Step("tiny-more", 0.75, f"{TINY} {MORE} {LIGHT}", "tiny"),
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
    """Return whether `--resume` continues what a folder holds: a checkpoint, or records of this commit."""
    commits = {record.circumstances.commit for record in _intact_records(folder)}
    return bool(list_checkpoints(folder / "checkpoints")) or commits == {current_commit()}


def fastest_batch_size(folders: Sequence[Path]) -> int | None:
    """Return the batch size of most images/s, as the geometric mean of the two methods; None without such records."""
    rates = defaultdict[int, dict[str, list[float]]](lambda: defaultdict(list))
    for folder in folders:
        for record in _intact_records(folder):
            if isinstance(record.measured, Speed) and (experiment := record.experiment) is not None:
                rate = images_per_second(experiment, record.measured)
                rates[experiment.batch_size][experiment.method].append(rate)
    pairs = {size: geometric_mean(map(median, of.values())) for size, of in rates.items() if len(of) > 1}
    return max(pairs, key=lambda size: pairs[size], default=None)


def _intact_records(folder: Path) -> list[Record]:
    return read_intact_files(record_files(folder), read_record)[0]
