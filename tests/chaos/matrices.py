"""A comparison and a scoring, killed again and again while they leave their records, and resumed."""

import random
import time
from collections.abc import Sequence
from pathlib import Path

from bench.record import Transfer, read_record
from bench.record_kind import Measured
from tests.chaos.commands import (
    LONGEST,
    POLL_OFTEN,
    KillLog,
    Process,
    child_runs,
    read_record_files,
    start_command,
    stay_on_core,
    wait_for_all,
    wait_for_exit,
    wait_until,
)

KINDS = ("measure", "transfer")
BETWEEN = 2.0  # seconds, about, from one record to the next
EXPERIMENTS = ("clip-tiny", "catlip-tiny")
SCORED: tuple[str, ...] = ()  # on all tasks of the pack, by the protocols that are named by default
QUICK = ("warmup_steps=1", "windows=2", "steps_per_window=1", "batch_size=16", "subset=random:500")


def kill_comparison(number: int, kills: int, seed: int, folder: Path) -> KillLog:
    """Kill a comparison, or a scoring, until that was done so often, on one core; compare with the unkilled.

    The folder holds the tower to score, and the images.
    """
    stay_on_core(number)
    kind = KINDS[number % len(KINDS)]
    draw, chain = random.Random(f"{seed} {kind}"), KillLog()
    words = _measuring(kills) if kind == "measure" else ["transfer", str(folder / "tower.safetensors"), *SCORED]
    while chain.kills < kills and not chain.stuck:
        out = folder / f"{kind}-{len(chain.finished)}"
        _run_until_done(words, out, kills, draw, chain)
        chain.finished.append(out)
    if kind == "transfer":
        _run_until_done(words, folder / f"{kind}-unkilled", 0, draw, chain)
    for out in chain.finished:
        text = _missing(out, kills) if kind == "measure" else _other_scores(out, folder / f"{kind}-unkilled")
        chain.unequal += [f"{out}: {one}" for one in text]
        chain.lost += [f"{out}: left over: {path.name}" for path in out.glob(".*.part")]
    return chain


def _measuring(kills: int) -> list[str]:
    """Return the words of a comparison that leaves some records more than there are kills."""
    words = ["measure", *EXPERIMENTS, "--rounds", str(_rounds(kills))]
    return [*words, *(word for setting in QUICK for word in ("--set", setting))]


def _rounds(kills: int) -> int:
    return max(1, kills // len(EXPERIMENTS))


def _run_until_done(words: Sequence[str], out: Path, kills: int, draw: random.Random, chain: KillLog) -> None:
    """Start it and resume it until it has ended by itself, killing it while there are kills left."""
    known, was_killed, log = dict[str, bytes](), True, out.with_suffix(".log")
    while was_killed and not chain.stuck:
        resume = ["--resume"] if known else []
        process = start_command(["-m", "bench", *words, "--results", str(out), *resume], log)
        was_killed = chain.kills < kills and _kill_at_random(process, out, len(known), draw, chain)
        if not was_killed and (code := wait_for_exit(process, LONGEST)) != 0:
            process.kill()
            chain.stuck.append(f"{out}: ended with exit code {code}: {log.read_text()[-2000:]}")
        found = read_record_files(out, chain.lost)
        chain.lost += [f"{out}: {name} is not what it was" for name in known if found.get(name) != known[name]]
        known = found


def _kill_at_random(process: Process, out: Path, known: int, draw: random.Random, chain: KillLog) -> bool:
    """Kill a command line, which its run does not outlive; tell whether it had not ended before.

    Half of the kills come within the write of a record, the others some time after the next one.
    """
    if draw.random() < 0.5:
        wait_until(lambda: any(out.glob(".*.part")), process, poll=POLL_OFTEN)
    else:
        wait_until(lambda: len(list(out.glob("*-*.*.json"))) > known, process)
        deadline = time.monotonic() + draw.uniform(0, BETWEEN)
        wait_until(lambda: time.monotonic() > deadline, process)
    if process.poll() is not None:
        return False
    process.kill()
    chain.kills += 1
    if wait_for_exit(process) is None or not wait_for_all(child_runs(process)):
        chain.stuck.append(f"{out}: killed, and a process stayed")
    chain.within += any(out.glob(".*.lock"))
    return True


def _measured(out: Path) -> dict[str, Measured]:
    """Return what was measured, by what records are called but for their comparison."""
    return {path.name.split(".", 1)[1]: read_record(path).measured for path in out.glob("*-*.*.json")}


def _missing(out: Path, kills: int) -> list[str]:
    kinds = sorted(name.split(".")[0] for name in _measured(out))
    expected = ["memory"] * len(EXPERIMENTS) + ["speed"] * len(EXPERIMENTS) * _rounds(kills)
    return [] if kinds == expected else [f"holds {kinds}"]


def _other_scores(out: Path, whole: Path) -> list[str]:
    mine, theirs = _measured(out), _measured(whole)
    text = [f"{name} is there on one side alone" for name in sorted(mine.keys() ^ theirs.keys())]
    both = sorted(mine.keys() & theirs.keys())
    return text + [
        f"{name} differs" for name in both if isinstance(mine[name], Transfer) and mine[name] != theirs[name]
    ]
