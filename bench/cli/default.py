"""The command line without a verb: the default comparison, a short check of it, or a full one."""

import os
import shlex
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import ClassVar

from bench.cli.options import Caption, Data, Results, Root, Tasks, option_arguments
from bench.console.console import PROGRAM


@dataclass(frozen=True, slots=True)
class Bench:
    """Compare the methods at the tiny scale: throughput, memory, training at equal budgets, transfer accuracy.

    The first round shows how many images and seeds fit into the time. Records are stored in the results folder;
    `catlip-bench report build` draws the page from them.
    """

    minutes: float | None = (
        None  # minutes for the comparison, which decide rounds, images and seeds; default: 12
    )
    smoke: bool = (
        False  # check of all stages with CLIP and CatLIP, in 90 s; its figures mean nothing
    )
    full: bool = False  # three seeds and longer training, with intervals over seeds and test images
    data: Data = None
    caption: Caption = None
    root: Root = None
    tasks: Tasks = ()
    resume: bool = (
        False  # resume the newest comparison of this scope; recorded runs are not repeated
    )
    results: Results = Path("results")

    purpose: ClassVar[str] = "compare"

    @property
    def scope_name(self) -> str:
        """The name of the scope; ValueError if two are named."""
        if self.smoke and self.full:
            raise ValueError("--smoke and --full exclude each other")
        return "smoke" if self.smoke else "full" if self.full else "default"

    @property
    def resume_hint(self) -> str:
        """The resume command, or that of the start where no run is finished."""
        # Its environment is not that of the person's shell.
        under_nox = "NOX_CURRENT_SESSION" in os.environ
        program = "nox -s bench --" if under_nox else PROGRAM
        options = option_arguments(self, "resume")
        if not self._has_records():
            return f"no run is finished; start again with: {program} {shlex.join(options)}".rstrip()
        return f"finished records are kept; resume with: {program} {shlex.join(['--resume', *options])}"

    def _has_records(self) -> bool:
        """Return whether this comparison has a record: the newest, if this process began it or resumes it."""
        import psutil

        from bench.orchestration.preflight import latest_comparison_name

        started = datetime.fromtimestamp(psutil.Process().create_time(), UTC)
        with suppress(ValueError):
            newest = latest_comparison_name(self.results, self.scope_name)
            return self.resume or newest >= f"{started:%Y%m%dT%H%M%S}"
        return False

    def run(self) -> int:
        """Measure speed and memory, train, and score the towers."""
        from bench.cli.default_comparison import run_default

        return run_default(
            self.scope_name,
            self.results,
            minutes=self.minutes,
            data=self.data,
            caption=self.caption,
            root=self.root,
            tasks=self.tasks,
            is_resumed=self.resume,
        )
