"""Break what can break, hundreds of times, and count what is lost, hangs, grows or gets in."""

import importlib
import io
import multiprocessing
import os
import secrets
import signal
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Annotated

import psutil
from tyro.conf import UseAppendAction, arg

from bench.cli.options import Json
from bench.config import choose
from bench.console.console import DISAGREEMENT, OK, TERMINATED, log
from bench.console.tables import print_tables
from bench.tables import Table
from tests.chaos.bound import Check

PARTS = {
    "shards": "tar shards cut and with flipped bits",
    "images": "broken images",
    "captions": "odd captions",
    "fuzz": "mutated records, towers, vocabularies and caption files",
    "hostile": "inputs that would execute, write or be obeyed",
    "limits": "inputs that would block, or take time or memory without end",
    "disk": "a disk that is full",
    "loops": "many trainings in one process",
    "kills": "trainings, a comparison and a scoring killed and resumed",
    "ranks": "processes of a joint training killed, and held",
}
# Parts that keep one core busy, in two rows side by side; the others keep two and come behind, one after the other.
PARALLEL_PARTS = (("shards", "images", "captions", "fuzz", "hostile", "limits", "disk"), ("loops",))
MODULES = {"ranks": "rank_kills", "disk": "full_disk"}  # of those that are not called like their part


@dataclass(frozen=True, slots=True)
class Chaos:
    """Break what can break, hundreds of times, and count what is lost, hangs, grows or gets in.

    About 25 minutes on two cores. Exits with 1 where a bound does not hold.
    """

    parts: Annotated[
        tuple[str, ...], UseAppendAction, arg(name="part", metavar="PART", help=f"one of {', '.join(PARTS)}; repeated")
    ] = ()
    fraction: float = 1.0  # of the number of tries, to be done sooner
    seed: int | None = None  # of all that is drawn, to repeat what went wrong; by default another each time, and told
    json: Json = None
    resume_hint = "nothing is kept; one --part is done sooner"

    def run(self) -> int:
        """Break, each part in a process of its own."""
        names = [choose(name, dict.fromkeys(PARTS, name), "part") for name in self.parts] or list(PARTS)
        if not 0 < self.fraction <= 1:
            raise ValueError(f"--fraction is above 0 and at most 1, got {self.fraction}")
        seed = secrets.randbelow(2**31) if self.seed is None else self.seed
        start, asked = time.monotonic(), dict.fromkeys(names)
        lanes = [[name for name in lane if name in asked] for lane in PARALLEL_PARTS]
        behind = [name for name in asked if not any(name in lane for lane in lanes)]
        interrupted = threading.Event()

        def rows_of(lane: Sequence[str]) -> dict[str, list[dict[str, str]]]:
            return {name: run_and_report(name, self.fraction, seed) for name in lane if not interrupted.is_set()}

        with ThreadPoolExecutor(len(PARALLEL_PARTS)) as pool:
            try:
                found = [*pool.map(rows_of, lanes), rows_of(behind)]
            except BaseException:
                interrupted.set()
                terminate_parts()
                raise
        rows = [row for name in PARTS for of_lane in found for row in of_lane.get(name, [])]
        note = f"Seed {seed}, {self.fraction:.0%} of the tries, {(time.monotonic() - start) / 60:.1f} minutes."
        print_tables([Table.of_figures("What was broken, and what became of it", rows, note)], self.json)
        return OK if all(row["holds"] == "yes" for row in rows) else DISAGREEMENT


def run_and_report(name: str, fraction: float, seed: int) -> list[dict[str, str]]:
    """Do a part, say what it is, what went wrong and how long it took; return its rows."""
    began = time.monotonic()
    log(f"{name}: {PARTS[name]}, seed {seed}")
    bounds = run_part(name, fraction, seed)
    for wrong in (wrong for bound in bounds for wrong in bound.failures):
        log(f"{name}: {wrong}")
    log(f"{name}: {time.monotonic() - began:,.0f} s")
    return [{"part": name, **bound.row} for bound in bounds]


def run_part(name: str, fraction: float, seed: int) -> Sequence[Check]:
    """Do a part in a fresh process, for memory is measured; what ends it is a bound that does not hold."""
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory(prefix=f"chaos-{name}-") as folder, ProcessPoolExecutor(1, context) as pool:
        try:
            return pool.submit(_run_part, name, fraction, seed, Path(folder)).result()
        except KeyboardInterrupt:
            terminate_parts()
            raise
        except BrokenProcessPool:
            text = "its process was killed"
        except Exception as error:  # noqa: BLE001 - the other parts are broken all the same
            text = f"{type(error).__name__}: {error}"
    return [Check(f"the part {name} itself", "ends", text, is_met=False, failures=(text,))]


def terminate_parts() -> None:
    """End all that are under way."""
    for child in multiprocessing.active_children():
        child.terminate()


def _run_part(name: str, fraction: float, seed: int, folder: Path) -> list[Check]:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it comes to the parent, too
    signal.signal(signal.SIGTERM, _terminate)
    part = importlib.import_module(f"tests.chaos.{MODULES.get(name, name)}")
    with redirect_stderr(io.StringIO()):  # what trainings say on their way
        found: list[Check] = part.run(fraction, seed, folder)
    return found


def _terminate(_signal: int, _frame: FrameType | None) -> None:
    """End, with all that the part has started."""
    for child in psutil.Process().children(recursive=True):
        child.kill()
    os._exit(TERMINATED)
