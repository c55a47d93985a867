"""Trainings killed again and again, and resumed, then what leaves records: nothing is lost, the end is the same."""

import random
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bench.environment.circumstances import CHECKOUT
from bench.train.checkpoints import list_checkpoints
from tests.chaos.bound import Check, check_none, num_tries
from tests.chaos.commands import (
    LONGEST,
    KillLog,
    Process,
    damaged_checkpoints,
    descendants,
    describe_training_difference,
    latest_step,
    read_record_files,
    start_command,
    stay_on_core,
    wait_for_all,
    wait_for_exit,
    wait_until,
)
from tests.chaos.matrices import kill_comparison
from tests.chaos.short import short_experiment, train_in_process

TRAININGS, MATRICES, CHAINS = 60, 40, 2  # kills of each, in so many chains side by side
STEPS_PER_KILL, FEWEST_STEPS, BATCH = 40, 80, 16
STARTING, TRAINING = 6.0, 2.0  # seconds, about, until a training takes steps, and from then on
METHODS = (("catlip-tiny", ()), ("superclass-tiny", ("--set", "ema_decay=0.9")))
SCORED = ("--task", "rooms")  # so that records follow; the unkilled, whose losses and tower are compared, has none
OFTEN = ("--checkpoint-minutes", "0.0001")  # which is every twenty steps


def run(fraction: float, seed: int, folder: Path) -> list[Check]:
    """Kill two chains of trainings side by side, then a comparison and a scoring, which leave many records."""
    subprocess.run([sys.executable, "-m", "bench.data.pack"], cwd=CHECKOUT, check=True)
    train_in_process(short_experiment("catlip"), folder)
    trainings = _side_by_side(kill_trainings, num_tries(TRAININGS, fraction), seed, folder)
    matrices = _side_by_side(kill_comparison, num_tries(MATRICES, fraction), seed, folder)
    killed, taken_up = (sum(chain.kills for chain in chains) for chains in (trainings, matrices))
    within = sum(chain.within for chain in matrices)
    ends, scored = (sum(len(chain.finished) for chain in chains) for chains in (trainings, matrices))
    return [
        check_none("trainings killed: checkpoints that cannot be read", killed, _all(trainings, "unreadable")),
        check_none("trainings killed: records and checkpoints lost or torn", killed, _all(trainings, "lost")),
        check_none("trainings killed: processes that stayed, or could not go on", killed, _all(trainings, "stuck")),
        check_none("trainings resumed: not equal to the unkilled to the last bit", ends, _all(trainings, "unequal")),
        check_none(
            f"comparisons and transfer runs killed, {within} times within a record: records lost or torn",
            taken_up,
            _all(matrices, "lost"),
        ),
        check_none("the same: processes that stayed, or could not go on", taken_up, _all(matrices, "stuck")),
        check_none(
            "the same at their end: other records or scores than the unkilled", scored, _all(matrices, "unequal")
        ),
    ]


def _side_by_side(
    chain_of: Callable[[int, int, int, Path], KillLog], kills: int, seed: int, folder: Path
) -> list[KillLog]:
    """Let chains share kills, one at least of each chain, and run side by side."""
    with ThreadPoolExecutor(CHAINS) as pool:
        parts = [max(1, kills // CHAINS + (number < kills % CHAINS)) for number in range(CHAINS)]
        return list(pool.map(lambda number: chain_of(number, parts[number], seed, folder), range(CHAINS)))


def _all(chains: Sequence[KillLog], what: str) -> list[str]:
    return [text for chain in chains for text in getattr(chain, what)]


def kill_trainings(number: int, kills: int, seed: int, folder: Path) -> KillLog:
    """Kill trainings at random times until that was done so often, each on one core; compare with the unkilled."""
    stay_on_core(number)
    draw, chain = random.Random(f"{seed} {number}"), KillLog()
    steps = max(FEWEST_STEPS, STEPS_PER_KILL * kills)
    while chain.kills < kills and not chain.stuck:
        out = folder / f"chain{number}-{len(chain.finished)}"
        _run_until_done(out, number, steps, kills, draw, chain)
        chain.finished.append(out)
    for turn, out in enumerate(chain.finished):
        whole = out.with_name(f"{out.name}-unkilled")
        process = start_command(_training(whole, number, steps, turn, "--no-score"), whole.with_suffix(".log"))
        if wait_for_exit(process, LONGEST) != 0 or (text := describe_training_difference(out, whole)):
            chain.unequal.append(f"{out}: {text if process.returncode == 0 else process.returncode}")
        if left := [path.name for path in out.glob(".*.part")]:
            chain.lost.append(f"{out}: left over: {', '.join(left)}")
    return chain


def _training(out: Path, number: int, steps: int, seed: int, *more: str) -> list[str]:
    name, changes = METHODS[number % len(METHODS)]
    words = ["-m", "bench", "train", name, "--images", str(BATCH * steps), "--out", str(out)]
    settings = (f"batch_size={BATCH}", "subset=random:500", f"seed={seed}")
    return [*words, *changes, *(word for setting in settings for word in ("--set", setting)), *more]


def _run_until_done(out: Path, number: int, steps: int, kills: int, draw: random.Random, chain: KillLog) -> None:
    """Start a training and resume it until it has ended by itself, killing it while there are kills left."""
    known, step, log = dict[str, bytes](), 0, out.with_suffix(".log")
    was_killed = True
    while was_killed and not chain.stuck:
        resume = ["--resume"] if list_checkpoints(out / "checkpoints") else []
        process = start_command(_training(out, number, steps, len(chain.finished), *OFTEN, *SCORED, *resume), log)
        was_killed = chain.kills < kills and _kill_at_random(process, out, draw, chain)
        if not was_killed and (code := wait_for_exit(process, LONGEST)) != 0:
            process.kill()
            chain.stuck.append(f"{out}: ended with exit code {code}: {log.read_text()[-2000:]}")
        chain.unreadable += damaged_checkpoints(out)
        found = read_record_files(out, chain.lost)
        chain.lost += [f"{out}: {name} is not what it was" for name in known if found.get(name) != known[name]]
        if latest_step(out) < step:
            chain.lost.append(f"{out}: the newest checkpoint is of step {latest_step(out)}, there was one of {step}")
        known, step = found, latest_step(out)


def _kill_at_random(process: Process, out: Path, draw: random.Random, chain: KillLog) -> bool:
    """Kill a training at a moment drawn; tell whether it had not ended before.

    One in four moments lies anywhere from the start on, the others where steps are taken and saved. The command line is
    killed, or the process that trains, or both at once, as if the power failed.
    """
    which = draw.choices(("both", "command line", "run"), (5, 3, 2))[0]
    if draw.random() < 0.25:
        deadline = time.monotonic() + draw.uniform(0, STARTING)
    else:
        before = latest_step(out)
        wait_until(lambda: latest_step(out) > before, process)
        deadline = time.monotonic() + draw.uniform(0, TRAINING)
    wait_until(lambda: time.monotonic() > deadline, process)
    if process.poll() is not None:
        return False
    runs = descendants(process)
    if which != "run" or not runs:
        process.kill()
    for run in runs if which != "command line" else []:
        run.kill()
    chain.kills += 1
    if wait_for_exit(process) is None or not wait_for_all(runs):
        chain.stuck.append(f"{out}: {which} killed, and a process stayed")
        process.kill()
    return True
