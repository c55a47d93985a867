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

from bench.cli.options import FOLDER, Repeated
from bench.console.console import FAILED_CASE, OK, log
from bench.console.tables import print_tables
from bench.environment.child_processes import kill_child_at_end
from bench.environment.circumstances import CHECKOUT
from bench.environment.files import make_folders
from bench.experiment.config import look_up
from bench.records.record import list_comparison_names
from bench.tables.tables import Table

Device = Literal["cuda", "cpu"]
PAGE_SECONDS = 120.0  # after which the drawing of a page is ended
LIGHT = "--set warmup_steps=2 --set windows=2 --set steps_per_window=2"  # figures that mean nothing, in seconds


@dataclass(frozen=True, slots=True)
class GpuStep:
    """A command line of Python, which is killed after some minutes.

    In it, {results} is the results folder and {folder} the folder of the step's own records.
    """

    name: str
    arguments: str
    minutes: float

    def command(self, results: Path) -> list[str]:
        """Return the words of the command line. It resumes the comparison that its folder holds."""
        folder = results / self.name
        words = [
            word.format(results=results, folder=folder) for word in shlex.split(self.arguments)
        ]
        can_resume = (
            "{folder}" in self.arguments and folder.is_dir() and bool(list_comparison_names(folder))
        )
        return [sys.executable, *words, *(["--resume"] if can_resume else [])]


def list_gpu_steps(device: Device) -> list[GpuStep]:
    """Return the steps in their order: first what a verdict needs. On a CPU they are tried at the tiny scale.

    The step `tests` needs a checkout, because an installed package has no tests.
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
        GpuStep("preflight", f"-m bench.features.gpu.preflight {device}", 3),
        GpuStep("b16", f"{measure_b16} --rounds {rounds}", 30),
        GpuStep("tests", f"-m pytest {tests} -q -p no:randomly", 15),
        GpuStep("l14", f"{measure_l14} --rounds {rounds}", 40),
        GpuStep("b16-ladder", f"-m bench explain {ladder} --rounds 2 --results {{folder}}", 40),
        GpuStep("b16-max-autotune", f"{measure_b16} --rounds 1 --set compile=max-autotune", 30),
        GpuStep("shards", f"-m bench.measure.generated_shards {{results}}/shards {images}", 5),
        GpuStep("b16-shards", f"{measure_b16} --rounds 1 --data {{results}}/shards", 10),
        GpuStep(
            "train",
            "-m bench train catlip-tiny --images 2048 --task 'Twemoji group' --out {results}/train --resume",
            10,
        ),
        GpuStep("open-clip", f"-m bench reference open-clip {open_clip} --results {{folder}}", 20),
    ]
    return [step for step in steps if step.name != "tests" or (CHECKOUT / "tests").is_dir()]


@dataclass(frozen=True, slots=True)
class Gpu:
    """Test and measure for the first time on a GPU, step by step; see docs/gpu.md for the steps.

    RESULTS/STEP.log receives the output of a step, RESULTS/STEP its records and RESULTS/STEP.html their page. A step
    that ends well leaves RESULTS/STEP.done and is not run again: the same command continues where it was ended. If
    `preflight` fails, no other step is run.
    """

    # step to run: preflight, b16, tests, l14, b16-ladder, b16-max-autotune, shards, b16-shards, train or
    # open-clip; repeatable; a step that is done is not run again; default: all
    steps: Annotated[Repeated, arg(name="step", metavar="STEP")] = ()
    device: Device = "cuda"  # cpu: try the same steps at the tiny scale, without a GPU
    # folder for the logs, records and pages of the steps
    results: Annotated[Path, FOLDER] = Path("results/gpu")

    def run(self) -> int:
        """Run the steps that are not done, and list how all ended."""
        steps = {step.name: step for step in list_gpu_steps(self.device)}
        chosen = [look_up(name, steps, "step") for name in self.steps] or [*steps.values()]
        results = self.results.resolve()
        make_folders(results)
        rows = []
        for step in chosen:
            done = results / f"{step.name}.done"
            start = time.monotonic()
            status = "done before" if done.exists() else run_gpu_step(step, results)
            rows.append({"step": step.name, "status": status, "seconds": time.monotonic() - start})
            if status == "ok":
                done.touch()
            elif step.name == "preflight" and status != "done before":
                break
        note = f"Output, records and pages are in {results}. The same command runs the steps that are not ok."
        print_tables([Table.from_dicts("Steps", rows, note)])
        return OK if all(row["status"] in ("ok", "done before") for row in rows) else FAILED_CASE


def run_gpu_step(step: GpuStep, results: Path) -> str:
    """Run a step, and draw the page of its records; return how it ended: "ok", "failed" or "timeout"."""
    command = step.command(results)
    output = results / f"{step.name}.log"
    log(f"{step.name}, at most {step.minutes:g} min: {shlex.join(['python3', *command[1:]])}")
    code = run_command(command, output, 60 * step.minutes)
    folder = results / step.name
    if folder.is_dir() and list_comparison_names(folder):
        page = f"{folder}.html"
        run_command(
            [sys.executable, "-m", "bench", "report", "build", str(folder), "--out", page],
            output,
            PAGE_SECONDS,
        )
    if code == OK:
        return "ok"
    status = "timeout" if code is None else "failed"
    log(f"{step.name}: {status}, see {output}")
    return status


def run_command(command: list[str], output: Path, seconds: float) -> int | None:
    """Run a command in the checkout, and append what it prints to a file; return its exit code.

    After the seconds, or an interrupt, it is killed with its descendants. None: it took longer.
    """
    with output.open("ab") as file:
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, cwd=CHECKOUT
        )
        with kill_child_at_end(child), suppress(subprocess.TimeoutExpired):
            return child.wait(seconds)
    return None
