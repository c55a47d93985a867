"""The verb `gpu`: the first hour on a GPU, as a list of command lines with a time limit each."""

import shlex
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import arg

from bench.cli.options import Folder, Repeated
from bench.console.console import FAILED_CASE, OK, log
from bench.console.tables import print_tables
from bench.environment.child_processes import kill_child_tree_at_block_end
from bench.environment.circumstances import CHECKOUT
from bench.environment.files import make_folders_unless_in_root
from bench.experiment.config import look_up
from bench.records.record import list_comparison_names
from bench.tables.tables import Table

Device = Literal["cuda", "cpu"]
StepStatus = Literal["ok", "failed", "timeout"]
PAGE_SECONDS = 120.0  # limit of drawing a page
LIGHT = "--set warmup_steps=2 --set windows=2 --set steps_per_window=2"  # figures that mean nothing, in seconds


@dataclass(frozen=True, slots=True)
class GpuCommand:
    """A command line of Python with a time limit.

    In its arguments, {results} is the results folder and {folder} the folder of the step's own records.
    """

    name: str
    arguments: str
    limit_minutes: float

    def command_line(self, results: Path) -> list[str]:
        """Return the words of the command line, which resumes a comparison that the step's folder holds."""
        folder = results / self.name
        arguments = [
            word.format(results=results, folder=folder) for word in shlex.split(self.arguments)
        ]
        writes_records = "{folder}" in self.arguments
        if writes_records and has_records(folder):
            arguments.append("--resume")
        return [sys.executable, *arguments]


def has_records(folder: Path) -> bool:
    """Return whether a folder is there and holds records."""
    return folder.is_dir() and bool(list_comparison_names(folder))


def list_gpu_commands(device: Device) -> list[GpuCommand]:
    """Return the steps in their order, the most important ones first; those for a CPU are at the tiny scale.

    The step `tests` is left out without a checkout, because an installed package has no tests.
    """
    if device == "cuda":
        measure_b16 = "-m bench measure clip-vit-b16 catlip-vit-b16 --results {folder}"
        measure_l14 = "-m bench measure clip-vit-l14 catlip-vit-l14 --results {folder}"
        ladder = (
            "catlip-vit-b16 --baseline clip-vit-b16 --factors attention=fp32_softmax "
            "activation_checkpointing=true batch_size=64 compile=off"
        )
        tests = "tests/gpu tests/profilers -m gpu"
        open_clip = "--set batch_size=256 --rounds 2"
        rounds = 5
        images = 20 * 1024
    else:
        measure_b16 = f"-m bench measure clip-tiny catlip-tiny {LIGHT} --results {{folder}}"
        measure_l14 = f"{measure_b16} --set image_size=96"
        ladder = f"catlip-tiny --baseline clip-tiny {LIGHT} --factors attention=fp32_softmax"
        tests = "tests/gpu -m 'not gpu'"
        open_clip = "--scale tiny --rounds 1"
        rounds = 2
        images = 256
    steps = [
        GpuCommand("preflight", f"-m bench.features.gpu.preflight {device}", 3),
        GpuCommand("b16", f"{measure_b16} --rounds {rounds}", 30),
        GpuCommand("tests", f"-m pytest {tests} -q -p no:randomly", 15),
        GpuCommand("l14", f"{measure_l14} --rounds {rounds}", 40),
        GpuCommand("b16-ladder", f"-m bench explain {ladder} --rounds 2 --results {{folder}}", 40),
        GpuCommand("b16-max-autotune", f"{measure_b16} --rounds 1 --set compile=max-autotune", 30),
        GpuCommand("shards", f"-m bench.measure.generated_shards {{results}}/shards {images}", 5),
        GpuCommand("b16-shards", f"{measure_b16} --rounds 1 --data {{results}}/shards", 10),
        GpuCommand(
            "train",
            "-m bench train catlip-tiny --images 2048 --task 'Twemoji group' --out {results}/train --resume",
            10,
        ),
        GpuCommand(
            "open-clip", f"-m bench reference open-clip {open_clip} --results {{folder}}", 20
        ),
    ]
    if not (CHECKOUT / "tests").is_dir():
        steps = [step for step in steps if step.name != "tests"]
    return steps


@dataclass(frozen=True, slots=True)
class RunGpuCommands:
    """Test and measure for the first time on a GPU, step by step; see docs/gpu.md for the steps.

    RESULTS/STEP.log receives the output of a step, RESULTS/STEP its records and RESULTS/STEP.html their page. A step
    that ends well leaves RESULTS/STEP.done and is not run again: the same command continues where it was ended. If
    `preflight` fails, no other step is run.
    """

    # step to run: preflight, b16, tests, l14, b16-ladder, b16-max-autotune, shards, b16-shards, train or
    # open-clip; repeatable; default: all; a step that ended well before is not run again
    steps: Annotated[Repeated, arg(name="step", metavar="STEP")] = ()
    device: Device = "cuda"  # cpu: try the same steps at the tiny scale, without a GPU
    # folder for the logs, records and pages of the steps
    results: Folder = Path("results/gpu")

    def run(self) -> int:
        """Run the steps that are not done, and print how each ended."""
        steps = {step.name: step for step in list_gpu_commands(self.device)}
        chosen = list(steps.values())
        if self.steps:
            chosen = [look_up(name, steps, "step") for name in self.steps]
        results = self.results.resolve()
        make_folders_unless_in_root(results)
        rows = []
        for step in chosen:
            done = results / f"{step.name}.done"
            start = time.monotonic()
            status = (
                "done before" if done.exists() else run_gpu_command_and_draw_page(step, results)
            )
            seconds = time.monotonic() - start
            rows.append({"step": step.name, "status": status, "seconds": seconds})
            if status == "ok":
                done.touch()
            elif step.name == "preflight" and status != "done before":
                break
        note = f"Output, records and pages are in {results}. The same command runs the steps that are not ok."
        print_tables([Table.from_dicts("Steps", rows, note)])
        return OK if all(row["status"] in ("ok", "done before") for row in rows) else FAILED_CASE


def run_gpu_command_and_draw_page(step: GpuCommand, results: Path) -> StepStatus:
    """Run a step with its time limit, draw the page of its records, and return how the step ended."""
    command = step.command_line(results)
    log_file = results / f"{step.name}.log"
    shown_command = shlex.join(["python3", *command[1:]])
    log(f"{step.name}, at most {step.limit_minutes:g} min: {shown_command}")
    code = run_with_time_limit(command, log_file, 60 * step.limit_minutes)
    folder = results / step.name
    if has_records(folder):
        draw_page = ["-m", "bench", "report", "build", str(folder), "--out", f"{folder}.html"]
        run_with_time_limit([sys.executable, *draw_page], log_file, PAGE_SECONDS)
    if code == OK:
        return "ok"
    status: StepStatus = "timeout" if code is None else "failed"
    log(f"{step.name}: {status}, see {log_file}")
    return status


def run_with_time_limit(command: list[str], log_file: Path, limit_seconds: float) -> int | None:
    """Run a command in the checkout, and append its output to a file; return its exit code, None after the limit.

    At the limit, or at an interrupt, it is killed with its descendants.
    """
    with log_file.open("ab") as output:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=CHECKOUT,
        )
        with kill_child_tree_at_block_end(child), suppress(subprocess.TimeoutExpired):
            return child.wait(limit_seconds)
    return None
