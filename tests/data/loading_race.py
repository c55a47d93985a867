"""Compare the loading of JPEGs with that of another checkout: `python -m tests.data.loading_race CHECKOUT`.

Two processes, one of each checkout, load batches of equal shards in one thread, in turn. Compared are CPU seconds per
image; the interval is that of the ratio over the repeats. Without CHECKOUT, the loading is compared with libjpeg's part
in it: decoding at the size that the crop needs, and at 1/8, where nearly all is Huffman decoding.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import simplejpeg
import torch

from bench.config import change
from bench.console.tables import Table, print_tables
from bench.data.order import SampleOrder
from bench.data.shards.shards import open_samples, open_shards
from bench.data.shards.stream import ShardLoader
from bench.method import methods
from bench.statistics import geometric_mean_interval
from bench.suites.test_loading import CATLIP, _write_shards

REPEATS, SECONDS = 12, 0.5  # turns of each process, and about the CPU seconds of each
SHARDS = {"256-512": (100, 256, 512), "512": (40, 512, 512), "1024": (20, 1024, 1024)}  # images, shortest, longest side
CASES = [*product(SHARDS, ("full", "reduced"))]
ROOT = Path(__file__).parents[2]


def make_loader(folder: Path, name: str, decoding: Any) -> ShardLoader[Any]:
    shards, images = open_shards(str(folder / name), folder / "cache"), SHARDS[name][0]
    experiment = change(CATLIP, data=shards.data, batch_size=images, caption_lengths="pack")
    experiment = change(experiment, jpeg_decoding=decoding)
    order, targets = SampleOrder(experiment, images), methods()["catlip"].targets
    return ShardLoader(experiment, targets, shards, range(images), order)


def load_in_turns(folder: Path) -> None:
    """For each line of a case on stdin, load its shards and print the CPU seconds per image."""
    torch.set_num_threads(1)
    loaders = {f"{name} {decoding}": make_loader(folder, name, decoding) for name, decoding in CASES}
    for loader in loaders.values():
        loader[0]
    print("ready", flush=True)
    for case in map(str.strip, sys.stdin):
        print(seconds_per_image(lambda k, loader=loaders[case]: len(loader[k].images)), flush=True)


def seconds_per_image(load: Callable[[int], int]) -> float:
    """Return the CPU seconds per image of loading batches 0, 1, … for about `SECONDS`; `load` returns their images."""
    start, images, k = time.process_time(), 0, 0
    while time.process_time() - start < SECONDS:
        images, k = images + load(k), k + 1
    return (time.process_time() - start) / images


def libjpeg_shares() -> Table:
    """Return the share of libjpeg's decoding in the CPU seconds of reduced loading, with 95 % intervals."""
    torch.set_num_threads(1)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name, reduction in (("512", 2), ("1024", 4)):
            (Path(folder) / name).mkdir()
            _write_shards(Path(folder) / name, *SHARDS[name])
            loader, shares = make_loader(Path(folder), name, "reduced"), {reduction: list[float](), 8: list[float]()}
            encoded = [open_samples(loader.shards).image(number) for number in range(SHARDS[name][0])]

            def decode(k: int, by: int, encoded: list[bytes] = encoded, side: int = int(name)) -> int:
                simplejpeg.decode_jpeg(encoded[k % len(encoded)], "RGB", min_height=side // by, min_width=side // by)
                return 1

            loader[0]
            for _ in range(REPEATS):
                whole = seconds_per_image(lambda k, loader=loader: len(loader[k].images))
                for by, found in shares.items():
                    found.append(seconds_per_image(partial(decode, by=by)) / whole)
            for by, found in shares.items():
                interval = geometric_mean_interval(found)
                assert interval is not None
                share = {"share": interval.value, "low": interval.low, "high": interval.high}
                rows.append({"side, px": name, "decoded at": f"1/{by}"} | share)
    return Table("libjpeg's share of reduced loading", rows, f"{REPEATS} repeats, alternating")


def start(checkout: Path, folder: Path) -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
    command, pipe = [sys.executable, __file__, "--load", str(folder)], subprocess.PIPE
    process = subprocess.Popen(command, cwd=checkout, env=environment, stdin=pipe, stdout=pipe, text=True)
    assert read(process) == "ready"
    return process


def read(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def take_turn(process: subprocess.Popen[str], case: tuple[str, str]) -> float:
    assert process.stdin is not None
    print(*case, file=process.stdin, flush=True)
    return float(read(process))


def race(checkout: Path) -> Table:
    """Return the images/s of both checkouts and their ratio, with 95 % intervals."""
    with tempfile.TemporaryDirectory() as folder:
        for name, sizes in SHARDS.items():
            (Path(folder) / name).mkdir()
            _write_shards(Path(folder) / name, *sizes)
        sides = [start(path, Path(folder)) for path in (checkout.resolve(), ROOT)]
        seconds = {case: [[], []] for case in CASES}
        for turn, case in product(range(REPEATS), CASES):
            for side in (0, 1) if turn % 2 else (1, 0):
                seconds[case][side].append(take_turn(sides[side], case))
        for process in sides:
            process.communicate()
    return Table("Loading", [row(case, *taken) for case, taken in seconds.items()], f"{REPEATS} repeats, alternating")


def row(case: tuple[str, str], other: list[float], own: list[float]) -> dict[str, Any]:
    pairs = [theirs / ours for theirs, ours in zip(other, own, strict=True)]
    found = {"side, px": case[0], "jpeg_decoding": case[1]}
    for name, figures in {
        "images/s of CHECKOUT": [1 / one for one in other],
        "images/s here": [1 / one for one in own],
        "ratio": pairs,
    }.items():
        interval = geometric_mean_interval(figures)
        assert interval is not None
        found |= {name: interval.value, f"{name}, low": interval.low, f"{name}, high": interval.high}
    return found


if __name__ == "__main__":
    if sys.argv[1:2] == ["--load"]:
        load_in_turns(Path(sys.argv[2]))
    elif len(sys.argv) == 1:
        print_tables([libjpeg_shares()])
    else:
        print_tables([race(Path(sys.argv[1]))])
