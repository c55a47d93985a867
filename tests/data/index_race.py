"""How long opening a million samples takes in every layout: the first time, and again from the cached index.

`python -m tests.data.index_race [SAMPLES]` writes small images in the layouts of `SOURCE_LAYOUTS`, and opens each in a
process of its own. The files are in the page cache, and their images have about 1 KiB: larger ones are passed over, but
a disk has to find them.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.data.captions.choice import FOUND_BY_NAME
from bench.data.samples import open_all_samples
from bench.interfaces.data_source import SampleRequest
from bench.measure.generated_shards import make_jpeg
from tests.data.layouts import SOURCE_LAYOUTS, Sample

SAMPLES, PIXELS = 1_000_000, 32
OPEN = "--open"


def open_once(data: str, cache: str) -> None:
    """Print the number of samples, and the seconds and CPU seconds of opening them."""
    started, used = time.perf_counter(), time.process_time()
    samples = open_all_samples(data, SampleRequest(cache=Path(cache), captions=FOUND_BY_NAME))
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = time.process_time() - used + children.ru_utime + children.ru_stime
    print(json.dumps([len(samples), time.perf_counter() - started, cpu]))


def main(number: int = SAMPLES) -> None:
    samples = [Sample(make_jpeg(0, PIXELS, PIXELS), f"a dog and {n} cats on a red chair") for n in range(number)]
    print(f"{'layout':14} {'samples':>10} {'seconds':>8} {'CPU s':>8} {'again, s':>9}")
    for name, write in SOURCE_LAYOUTS.items():
        with tempfile.TemporaryDirectory() as folder:
            data, cache = write(Path(folder) / "data", samples), Path(folder) / "cache"
            command = [sys.executable, "-m", "tests.data.index_race", OPEN, str(data), str(cache)]
            first, again = (json.loads(subprocess.check_output(command)) for _ in range(2))
            print(f"{name:14} {first[0]:10,} {first[1]:8.1f} {first[2]:8.1f} {again[1]:9.1f}", flush=True)


if __name__ == "__main__":
    if OPEN in sys.argv:
        open_once(*sys.argv[2:])
    else:
        main(*map(int, sys.argv[1:]))
