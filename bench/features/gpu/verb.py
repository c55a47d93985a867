"""The verb `gpu`: the first hour on a GPU, in steps that are command lines of their own."""

import os
import re
import shlex
import subprocess
import sys
import tarfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, ClassVar

from tyro.conf import UseAppendAction, arg

from bench.cli.main import parse
from bench.cli.options import EstimatedCommand, Results
from bench.cli.verbs import VERBS
from bench.console.console import FAILED_CASE, OK, REQUEUE, escape_unprintable, log
from bench.console.options import MINUTES_RANGE, require_range
from bench.console.tables import print_tables
from bench.environment.child_processes import die_with_parent, kill_at_end
from bench.environment.circumstances import CHECKOUT
from bench.environment.files import atomic_write, make_folders
from bench.experiment.config import choose
from bench.features.gpu.steps import (
    STEPS,
    STEPS_FILE,
    Device,
    Status,
    Step,
    StepResult,
    batch_size_to_resume,
    fastest_batch_size,
    is_resumable,
    read_step_results,
    write_step_results,
)
from bench.orchestration.pace import TWO_CORES, Pace
from bench.orchestration.preflight import count_gpus, machine_pace
from bench.records.record import comparisons
from bench.tables.tables import Table

LINES_KEPT = 15  # of the output of a step
DEADLINE_FACTOR = 3  # a step is ended after so many times its minutes, which are estimates
SPARE_MINUTES, GRACE_MINUTES = 0.25, 1.5  # before and after the last minute, for a run that takes longer than expected
PAGE_SECONDS = 120.0  # after which the drawing of a page is ended
FEWEST_MINUTES = 2.0  # in which a step that can be continued is begun: a run, and its page
CPU_PROCESSES = 2  # in place of several GPUs
PACKED = (".json", ".json.gz", ".html", ".log", ".txt")  # records, tables, traces, pages, output, keys of samples
LEFT_OUT = {"cache", "checkpoints", "shards"}  # names of folders
Only = Annotated[tuple[str, ...], UseAppendAction, arg(metavar="STEP", help="name of a step to run; repeatable")]
Pack = Annotated[
    Path | None,
    arg(
        metavar="FILE", help="run nothing: pack records, pages and output of RESULTS into this .tar.gz, without towers"
    ),
]


@dataclass(frozen=True, slots=True)
class Gpu:
    """Test and measure for the first time on a GPU, in steps, each of which is a child process with a deadline.

    RESULTS/gpu.json receives the result of each step, RESULTS/STEP.log its output, RESULTS/STEP its records and
    RESULTS/STEP.html their page. If the first step fails, the others are skipped. A step that measures begins no run
    that would end too late, and is then unfinished: the same command with --resume continues it. The exit code is 75
    if a step is unfinished and none failed.
    """

    minutes: float = 60.0  # minutes for all steps; a step that needs more than what is left is skipped
    only: Only = ()
    device: Device = "cuda"  # cpu: the same steps at the tiny scale, in half an hour
    resume: bool = False  # run the steps that are not ok yet, and continue those that were cut short
    results: Results = Path("results/gpu")
    pack_results: Pack = None
    purpose: ClassVar[str] = "check"
    resume_hint = "finished steps are kept; resume with the same command and --resume"

    def run(self) -> int:
        """Run the steps, and list how each ended."""
        require_range("minutes", self.minutes, *MINUTES_RANGE)
        file = self._path(STEPS_FILE)
        if self.pack_results is not None:
            return self._pack(self.pack_results)
        table = {step.name: step for step in known_steps(self.device)}
        chosen = [choose(name, table, "step") for name in self.only] or [*table.values()]
        found = read_step_results(file, self.device)
        if found and not (self.resume or self.only):
            raise ValueError(f"{file} exists: continue with --resume, or name another folder with --results")
        done = {name for name, one in found.items() if self.resume and one.status == "ok"}
        deadline = time.monotonic() + 60 * self.minutes
        num_gpus, pace = (count_gpus(), machine_pace()) if self.device == "cuda" else (CPU_PROCESSES, TWO_CORES)
        steps = [step for step in chosen if step.name not in done and step.min_gpus <= max(1, num_gpus)]
        make_folders(file.parent)
        first, blocked = next(iter(table)), ""
        for step in steps:
            left, batch = (deadline - time.monotonic()) / 60, self._batch_size(step)
            command = self._command(step, num_gpus, batch, left - SPARE_MINUTES - pace.page_seconds / 60)
            if step.batch_size_folders and batch is None:
                reason = f"no pair was timed by {' or '.join(step.batch_size_folders)}"
            elif not (reason := blocked):
                minutes = self._expected_minutes(step, num_gpus, batch, pace)
                needed = min(minutes, FEWEST_MINUTES) if step.can_be_continued else minutes
                if needed > left:
                    reason = f"it needs {needed:.3g} minutes, and {max(0.0, left):.1f} are left"
            if reason:
                log(f"{step.name} is skipped: {reason}")
                result = _result(step, "skipped", command, [reason])
            else:
                log(f"{left:.1f} min left | {step.name}, about {minutes:.1f} min: {shlex.join(command)}")
                seconds = 60 * min(DEADLINE_FACTOR * minutes, left + GRACE_MINUTES)
                result = self._run_step(step, command, seconds, pace)
            found[step.name] = result
            write_step_results(file, self.device, found)
            if step.name == first and result.status != "ok":
                blocked = f"{first} did not end well"
        return self._finish([found[name] for name in table if name in found])

    def _path(self, name: str) -> Path:
        return self.results.resolve() / name

    def _batch_size(self, step: Step) -> int | None:
        """Return the batch size of a step that was begun, or else the fastest that was timed before it."""
        begun = batch_size_to_resume(self._path(step.folder or step.name)) if step.batch_size_folders else None
        return begun or fastest_batch_size([*map(self._path, step.batch_size_folders)])

    def _command(self, step: Step, num_gpus: int, batch: int | None, minutes: float) -> list[str]:
        """Return the words of the step's command line, which may take so many minutes."""
        folder = self._path(step.folder or step.name)
        values = dict[str, object](results=self._path("."), folder=folder, gpus=num_gpus, batch=batch)
        values["resume"] = "--resume" if (self.resume or step.folder) and is_resumable(folder) else ""
        values["limit"] = f"--max-minutes={max(0.01, minutes):.2f}"
        return ["python", *filter(None, (word.format(**values) for word in shlex.split(step.command)))]

    def _expected_minutes(self, step: Step, num_gpus: int, batch: int | None, pace: Pace) -> float:
        """Return the minutes of a step with its page: its own, or those that its verb expects at a pace.

        A step that continues another one does not repeat its runs.
        """
        if step.minutes is not None:
            return step.minutes

        def expect(step: Step) -> float:
            words = self._command(step, num_gpus, batch, self.minutes)
            verb = parse(words[words.index("bench") + 1 :])
            assert isinstance(verb, EstimatedCommand), f"{step.name} has neither minutes nor a verb that expects them"
            return verb.expected_seconds(pace)

        before = [expect(one) for one in STEPS[self.device] if one.name == step.folder and step.can_be_continued]
        return (expect(step) - sum(before) + pace.page_seconds) / 60

    def _run_step(self, step: Step, command: Sequence[str], seconds: float, pace: Pace) -> StepResult:
        """Run a step and draw the page of its records; both are killed after so many seconds."""
        output, settings = self._path(f"{step.name}.log"), {"CUDA_VISIBLE_DEVICES": ""} if self.device == "cpu" else {}
        output.write_bytes(b"")
        start = time.monotonic()
        code = run_command([sys.executable, *command[1:]], output, seconds, settings)
        lines = [line for line in output.read_text(errors="replace").splitlines() if line.strip()]
        folder = self._path(step.folder or step.name)
        if folder.is_dir() and comparisons(folder):
            build = [sys.executable, "-m", "reports", "build", str(folder), "--out", f"{folder}.html"]
            left = max(pace.page_seconds, min(PAGE_SECONDS, seconds - (time.monotonic() - start)))
            if run_command(build, output, left, settings) != OK:
                log(f"the page of {folder} is missing or incomplete, see {output}")
        others: dict[int | None, Status] = {None: "timeout", REQUEUE: "unfinished"}
        status = "ok" if code in step.accepted else others.get(code, "failed")
        result = _result(step, status, command, lines, time.monotonic() - start)
        for line in result.last_lines if result.status != "ok" else ():
            log(f"  {line}")
        log(f"{step.name}: {result.status} after {result.seconds:.0f} s; its output is in {output}")
        return result

    def _pack(self, file: Path) -> int:
        if not self._path(STEPS_FILE).is_file():
            raise ValueError(f"{self.results} has no {STEPS_FILE}: name the folder of the steps with --results")
        count = pack_results(self.results.resolve(), file)
        print(f"{count} files, {file.stat().st_size / 2**20:.1f} MiB: {file}")
        return OK

    def _finish(self, found: Sequence[StepResult]) -> int:
        """List how the steps ended; return the exit code."""
        rows = []
        for one in found:
            page = f"{one.step}.html" if self._path(f"{one.step}.html").exists() else ""
            row = {"step": one.step, "status": one.status, "seconds": one.seconds, "page": page}
            rows.append(row | {"last line": "" if one.status == "ok" else " ".join(one.last_lines[-1:])})
        note = f"Pages, output and {STEPS_FILE} are in {self._path('.')}."
        statuses = {one.status for one in found}
        if statuses != {"ok"}:
            note += "\nRun the steps that are not ok with the same command and --resume."
        print_tables([Table.of_figures("Steps", rows, note)])
        return FAILED_CASE if statuses & {"failed", "timeout"} else REQUEUE if "unfinished" in statuses else OK


def known_steps(device: Device) -> list[Step]:
    """Return the steps on a device whose verbs this program has."""
    verbs = {step.name: re.findall(r"-m bench (\w+)", step.command) for step in STEPS[device]}
    return [step for step in STEPS[device] if all(verb in VERBS for verb in verbs[step.name])]


def _result(
    step: Step, status: Status, command: Sequence[str], lines: Sequence[str], seconds: float = 0.0
) -> StepResult:
    last_lines = tuple(map(escape_unprintable, lines[-LINES_KEPT:]))
    return StepResult(
        step=step.name, status=status, seconds=round(seconds, 1), command=shlex.join(command), last_lines=last_lines
    )


def run_command(words: Sequence[str], output: Path, seconds: float, settings: Mapping[str, str]) -> int | None:
    """Run a command in the checkout and append what it prints to a file; return its exit code.

    It is killed with its descendants after so many seconds, which returns None, and when this call is interrupted; if
    this process is killed, the command ends too. `settings` are environment variables.
    """
    with output.open("ab") as file:
        child = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            cwd=CHECKOUT,
            env=os.environ | settings,
            process_group=0,  # Ctrl-C reaches this process alone
            preexec_fn=partial(die_with_parent, os.getpid()),  # noqa: PLW1509 - this process has one thread
        )
        with kill_at_end(child), suppress(subprocess.TimeoutExpired):
            return child.wait(seconds)
    return None


def pack_results(results: Path, file: Path) -> int:
    """Pack the records, pages and output in a folder and below it, without towers; return the number of files.

    The file is whole or absent. Unpacked, it is a folder of the same name, from which pages are drawn as before.
    """
    paths = [path for path in sorted(results.rglob("*")) if path.is_file() and _is_packed(path.relative_to(results))]
    with atomic_write(file) as temporary, tarfile.open(temporary, "w:gz") as tar:
        for path in paths:
            tar.add(path, Path(results.name, path.relative_to(results)))
    return len(paths)


def _is_packed(path: Path) -> bool:
    is_hidden = any(part.startswith(".") for part in path.parts)
    return path.name.endswith(PACKED) and not is_hidden and LEFT_OUT.isdisjoint(path.parts[:-1])
