"""Trainings and comparisons killed again and again, and taken up: nothing is lost, and the end is the same."""

import os
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from bench.commit import CHECKOUT
from bench.faults.bound import Bound, none_of, tries
from bench.faults.commands import (
    Process,
    all_ended,
    begun,
    difference,
    ended,
    family,
    newest_step,
    records_of,
    unreadable,
    waited_for,
)
from bench.training.checkpoints import checkpoints

FULL, CHAINS, MATRICES = 100, 2, 4
STEPS_A_KILL, FEWEST_STEPS, BATCH = 40, 80, 16
STARTING, TRAINING = 8.0, 2.0  # seconds, about, until a training takes steps, and from then on
LONGEST = 10 * 60.0  # seconds that what is not killed may take
METHODS = (("catlip-tiny", ()), ("superclass-tiny", ("--set", "ema_decay=0.9")))
OFTEN = ("--checkpoint-minutes", "0.0001")  # which is every twenty steps
MATRIX = [
    *("measure", "clip-tiny", "catlip-tiny", "--rounds", "1", "--set", "warmup_steps=1", "--set", "windows=2"),
    *("--set", "steps_per_window=1", "--set", "batch_size=16", "--set", "subset=random:500"),
]


@dataclass(slots=True)
class Chain:
    """What was killed and taken up, and what was amiss."""

    kills: int = 0
    trainings: list[Path] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    stuck: list[str] = field(default_factory=list)
    unequal: list[str] = field(default_factory=list)


def run(share: float, seed: int, folder: Path) -> list[Bound]:
    """Kill two chains side by side, then a matrix."""
    subprocess.run([sys.executable, "-m", "bench.data.pack", str(folder / "cache")], cwd=CHECKOUT, check=True)
    kills = tries(FULL, share)
    with ThreadPoolExecutor(CHAINS) as pool:
        parts = [kills // CHAINS + (number < kills % CHAINS) for number in range(CHAINS)]
        numbers = [number for number in range(CHAINS) if parts[number]]
        chains = list(pool.map(lambda number: killed_trainings(number, parts[number], seed, folder), numbers))
    matrix = killed_matrix(tries(MATRICES, share), seed, folder)
    killed = sum(chain.kills for chain in chains)
    trainings = sum(len(chain.trainings) for chain in chains)
    return [
        none_of("trainings killed: checkpoints that cannot be read", killed, _all(chains, "unreadable")),
        none_of("trainings killed: records and checkpoints lost or torn", killed, _all(chains, "lost")),
        none_of("trainings killed: processes that stayed, or could not go on", killed, _all(chains, "stuck")),
        none_of("trainings taken up: not equal to the unkilled to the last bit", trainings, _all(chains, "unequal")),
        none_of(
            "comparisons killed: records lost or torn, or none at the end", matrix.kills, [*matrix.lost, *matrix.stuck]
        ),
    ]


def _all(chains: Sequence[Chain], what: str) -> list[str]:
    return [told for chain in chains for told in getattr(chain, what)]


def killed_trainings(number: int, kills: int, seed: int, folder: Path) -> Chain:
    """Kill trainings at random times until that was done so often, each on one core; compare with the unkilled."""
    own = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {own[number % len(own)]})  # of this thread, and of what it starts
    draw, chain = random.Random(f"{seed} {number}"), Chain()  # noqa: S311 - to be drawn again
    steps = max(FEWEST_STEPS, STEPS_A_KILL * kills)
    while chain.kills < kills and not chain.stuck:
        out = folder / f"chain{number}-{len(chain.trainings)}"
        _until_done(out, number, steps, kills, draw, chain)
        chain.trainings.append(out)
    for turn, out in enumerate(chain.trainings):
        whole = out.with_name(f"{out.name}-unkilled")
        process = begun(_training(whole, number, steps, turn), whole.with_suffix(".log"))
        if ended(process, LONGEST) != 0 or (told := difference(out, whole)):
            chain.unequal.append(f"{out}: {told if process.returncode == 0 else process.returncode}")
        if left := [path.name for path in out.glob(".*")]:
            chain.lost.append(f"{out}: left over: {', '.join(left)}")
    return chain


def _training(out: Path, number: int, steps: int, seed: int, *more: str) -> list[str]:
    name, changes = METHODS[number % len(METHODS)]
    words = ["-m", "bench", "train", name, "--images", str(BATCH * steps), "--out", str(out), "--task", "rooms"]
    settings = (f"batch_size={BATCH}", "subset=random:500", f"seed={seed}")
    return [*words, *changes, *(word for setting in settings for word in ("--set", setting)), *more]


def _until_done(out: Path, number: int, steps: int, kills: int, draw: random.Random, chain: Chain) -> None:
    """Start a training and go on with it until it has ended by itself, killing it while there are kills left."""
    known, step, log = dict[str, bytes](), 0, out.with_suffix(".log")
    was_killed = True
    while was_killed and not chain.stuck:
        resume = ["--resume"] if checkpoints(out / "checkpoints") else []
        process = begun(_training(out, number, steps, len(chain.trainings), *OFTEN, *resume), log)
        was_killed = chain.kills < kills and _killed(process, out, draw, chain)
        if not was_killed and (code := ended(process, LONGEST)) != 0:
            process.kill()
            chain.stuck.append(f"{out}: ended with exit code {code}: {log.read_text()[-2000:]}")
        chain.unreadable += unreadable(out)
        found = records_of(out, chain.lost)
        chain.lost += [f"{out}: {name} is not what it was" for name in known if found.get(name) != known[name]]
        if newest_step(out) < step:
            chain.lost.append(f"{out}: the newest checkpoint is of step {newest_step(out)}, there was one of {step}")
        known, step = found, newest_step(out)


def _killed(process: Process, out: Path, draw: random.Random, chain: Chain) -> bool:
    """Kill a training at a moment drawn; tell whether it had not ended before.

    One in four moments lies anywhere from the start on, the others where steps are taken and saved. The command line is
    killed, or the process that trains, or both at once, as if the power failed.
    """
    which = draw.choices(("both", "command line", "run"), (5, 3, 2))[0]
    if draw.random() < 0.25:  # noqa: PLR2004
        deadline = time.monotonic() + draw.uniform(0, STARTING)
    else:
        before = newest_step(out)
        waited_for(lambda: newest_step(out) > before, process)
        deadline = time.monotonic() + draw.uniform(0, TRAINING)
    waited_for(lambda: time.monotonic() > deadline, process)
    if process.poll() is not None:
        return False
    runs = family(process)
    if which != "run" or not runs:
        process.kill()
    for run in runs if which != "command line" else []:
        run.kill()
    chain.kills += 1
    if ended(process) is None or not all_ended(runs):
        chain.stuck.append(f"{out}: {which} killed, and a process stayed")
        process.kill()
    return True


def killed_matrix(kills: int, seed: int, folder: Path) -> Chain:
    """Kill a comparison within and between its runs, and go on with it to its end."""
    out, draw, chain = folder / "matrix", random.Random(f"{seed} matrix"), Chain()  # noqa: S311
    known, was_killed = dict[str, bytes](), True
    while was_killed and not chain.stuck:
        process = begun(
            ["-m", "bench", *MATRIX, "--results", str(out), *(["--resume"] if known else [])], folder / "log"
        )
        was_killed = chain.kills < kills and _killed_within(process, out, len(known), draw)
        chain.kills += was_killed
        if not was_killed and (code := ended(process, LONGEST)) != 0:
            process.kill()
            chain.stuck.append(f"{out}: ended with exit code {code}: {(folder / 'log').read_text()[-2000:]}")
        found = records_of(out, chain.lost)
        chain.lost += [f"{name} is not what it was" for name in known if found.get(name) != known[name]]
        known = found
    if (kinds := sorted(name.split(".")[1] for name in known)) != ["memory", "memory", "speed", "speed"]:
        chain.lost.append(f"{out} holds {kinds} at the end")
    return chain


def _killed_within(process: Process, out: Path, known: int, draw: random.Random) -> bool:
    """Kill a comparison some time after its next record; tell whether it had not ended before."""
    waited_for(lambda: len(list(out.glob("*-*.*.json"))) > known, process)
    deadline = time.monotonic() + draw.uniform(0, TRAINING)
    waited_for(lambda: time.monotonic() > deadline, process)
    if process.poll() is not None:
        return False
    runs = family(process)
    process.kill()
    for run in runs:
        run.kill()
    ended(process)
    return True
