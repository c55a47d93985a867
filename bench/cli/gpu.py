"""The verb `gpu`: the first hour on a GPU, in steps that are command lines of their own."""

import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import UseAppendAction, arg

from bench.cli.options import Results
from bench.config import choose
from bench.console.console import FAILED_CASE, OK, log, printable
from bench.console.options import MINUTES_RANGE, require_range
from bench.console.progress import Progress
from bench.console.tables import Table, print_tables
from bench.environment.files import make_folders
from bench.orchestration.gpu_steps import (
    STEPS,
    STEPS_FILE,
    Device,
    Status,
    Step,
    StepResult,
    fastest_batch_size,
    is_resumable,
    read_step_results,
    write_step_results,
)
from bench.orchestration.preflight import count_gpus
from bench.orchestration.processes import run_command
from bench.record import comparisons

LINES_KEPT = 15  # of the output of a step
DEADLINE_FACTOR = 3  # a step is ended after so many times its minutes, which are estimates
PAGE_SECONDS = 120.0  # after which the drawing of a page is ended
CPU_PROCESSES = 2  # in place of several GPUs
Only = Annotated[tuple[str, ...], UseAppendAction, arg(metavar="STEP", help="name of a step to run; repeatable")]


@dataclass(frozen=True, slots=True)
class Gpu:
    """Test and measure for the first time on a GPU, in steps, each of which is a child process with a deadline.

    RESULTS/gpu.json receives the result of each step, RESULTS/STEP.log its output, RESULTS/STEP its records and
    RESULTS/STEP.html their page. If the first step fails, the others are skipped.
    """

    minutes: float = 60.0  # minutes for all steps; a step that needs more than what is left is skipped
    only: Only = ()
    device: Device = "cuda"  # cpu: the same steps at the tiny scale, in ten minutes
    resume: bool = False  # run the steps that are not ok yet, and continue those that were cut short
    results: Results = Path("results/gpu")
    resume_hint = "finished steps are kept; resume with the same command and --resume"

    def run(self) -> int:
        """Run the steps, and list how each ended."""
        require_range("minutes", self.minutes, *MINUTES_RANGE)
        table, file = {step.name: step for step in STEPS[self.device]}, self._path(STEPS_FILE)
        chosen = [choose(name, table, "step") for name in self.only] or [*table.values()]
        found = read_step_results(file, self.device)
        if found and not (self.resume or self.only):
            raise ValueError(f"{file} exists: continue with --resume, or name another folder with --results")
        done = {name for name, one in found.items() if self.resume and one.status == "ok"}
        num_gpus = count_gpus() if self.device == "cuda" else CPU_PROCESSES
        steps = [step for step in chosen if step.name not in done and step.min_gpus <= max(1, num_gpus)]
        make_folders(file.parent)
        progress, deadline = Progress(60.0 * sum(step.minutes for step in steps)), time.monotonic() + 60 * self.minutes
        first, blocked = next(iter(table)), ""
        for step in steps:
            left, batch = (deadline - time.monotonic()) / 60, fastest_batch_size([*map(self._path, step.batch_from)])
            command = self._command(step, num_gpus, batch)
            if reason := blocked or _why_skipped(step, left, batch):
                log(f"{step.name} is skipped: {reason}")
                progress.expect(-60.0 * step.minutes)
                result = _result(step, "skipped", command, [reason])
            else:
                progress.log_start(f"{step.name}: {shlex.join(command)}")
                result = self._run_step(step, command, 60 * min(DEADLINE_FACTOR * step.minutes, left))
                progress.finish(60.0 * step.minutes)
            found[step.name] = result
            write_step_results(file, self.device, found)
            if step.name == first and result.status != "ok":
                blocked = f"{first} did not end well"
        return self._finish([found[name] for name in table if name in found])

    def _path(self, name: str) -> Path:
        return self.results.resolve() / name

    def _command(self, step: Step, num_gpus: int, batch: int | None) -> list[str]:
        """Return the words of the step's command line."""
        folder = self._path(step.folder or step.name)
        values = dict[str, object](results=self._path("."), folder=folder, gpus=num_gpus, batch=batch)
        values["resume"] = "--resume" if self.resume and is_resumable(folder) else ""
        return ["python", *filter(None, (word.format(**values) for word in shlex.split(step.command)))]

    def _run_step(self, step: Step, command: Sequence[str], seconds: float) -> StepResult:
        """Run a step, which is killed after so many seconds, and draw the page of its records."""
        output, settings = self._path(f"{step.name}.log"), {"CUDA_VISIBLE_DEVICES": ""} if self.device == "cpu" else {}
        output.write_bytes(b"")
        start = time.monotonic()
        code = run_command([sys.executable, *command[1:]], output, seconds, settings)
        status: Status = "timeout" if code is None else "ok" if code in step.accepted else "failed"
        lines = [line for line in output.read_text(errors="replace").splitlines() if line.strip()]
        result = _result(step, status, command, lines, time.monotonic() - start)
        for line in result.last_lines if status != "ok" else ():
            log(f"  {line}")
        log(f"{step.name}: {status} after {result.seconds:.0f} s; its output is in {output}")
        folder = self._path(step.folder or step.name)
        if folder.is_dir() and comparisons(folder):
            build = [sys.executable, "-m", "reports", "build", str(folder), "--out", f"{folder}.html"]
            if run_command(build, output, PAGE_SECONDS, settings) != OK:
                log(f"the page of {folder} is missing or incomplete, see {output}")
        return result

    def _finish(self, found: Sequence[StepResult]) -> int:
        """List how the steps ended; return the exit code."""
        rows = []
        for one in found:
            page = f"{one.step}.html" if self._path(f"{one.step}.html").exists() else ""
            row = {"step": one.step, "status": one.status, "seconds": one.seconds, "page": page}
            rows.append(row | {"last line": "" if one.status == "ok" else " ".join(one.last_lines[-1:])})
        note = f"Pages, output and {STEPS_FILE} are in {self._path('.')}."
        if any(one.status != "ok" for one in found):
            note += "\nRun the steps that are not ok with the same command and --resume."
        print_tables([Table("Steps", rows, note)])
        return FAILED_CASE if any(one.status in ("failed", "timeout") for one in found) else OK


def _why_skipped(step: Step, minutes_left: float, batch: int | None) -> str:
    """Return the reason why a step cannot run now, or ""."""
    if step.minutes > minutes_left:
        return f"it needs {step.minutes:g} minutes, and {max(0.0, minutes_left):.1f} are left"
    return f"no pair was timed by {' or '.join(step.batch_from)}" if step.batch_from and batch is None else ""


def _result(
    step: Step, status: Status, command: Sequence[str], lines: Sequence[str], seconds: float = 0.0
) -> StepResult:
    last_lines = tuple(map(printable, lines[-LINES_KEPT:]))
    return StepResult(
        step=step.name, status=status, seconds=round(seconds, 1), command=shlex.join(command), last_lines=last_lines
    )
