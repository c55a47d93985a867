"""Documents as pytest-benchmark writes them, made up: one file a process."""

import json
import math
import random
from pathlib import Path
from typing import Any

MACHINE = "Example CPU, 2 logical cores; 1 thread; python 3.11.7, torch 2.9.1"


def document(
    seconds: dict[str, float],
    commit: str = "a" * 40,
    *,
    time: str | None = "2026-11-25T01:00:00Z",
    measured: str = "2026-11-25T02:00:00+00:00",
    machine: str = MACHINE,
    extra: dict[str, Any] | None = None,
    dirty: bool = False,
) -> dict[str, Any]:
    return {
        "machine_info": {
            "fingerprint": machine,
            "cpu": {"brand_raw": "Example CPU", "count": 2},
            "system": "Linux",
        },
        "commit_info": {"id": commit, "time": time, "dirty": dirty},
        "benchmarks": [
            {
                "group": "losses",
                "name": name,
                "fullname": f"bench/suites/test_losses.py::{name}",
                "extra_info": extra or {},
                "stats": {
                    "median": value,
                    "iqr": value / 50,
                    "rounds": 20,
                    "iterations": 1,
                    "data": [value],
                },
            }
            for name, value in seconds.items()
        ],
        "datetime": measured,
        "version": "5.3.1",
    }


def written(folder: Path, *documents: dict[str, Any]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number, one in enumerate(documents):
        (folder / f"{number:03}.json").write_text(json.dumps(one))
    return folder


def commits(
    *levels: float, machine: str = "here", processes: int = 1, first: int = 0
) -> list[dict[str, Any]]:
    """Documents of one commit a level, whose processes were interleaved."""
    draw = random.Random(3)
    return [
        document(
            {"test_a": level * math.exp(draw.gauss(0, 0.004))},
            f"{at:08x}" * 5,
            time=f"2026-11-{1 + at:02}T00:00:00Z",
            measured=f"2026-12-01T00:00:{at:02}+00:00",
            machine=machine,
            extra={"parameters": 1000},
        )
        | {"turn": str(process)}
        for at, level in enumerate(levels, start=first)
        for process in range(processes)
    ]
