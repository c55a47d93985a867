"""Documents as pytest-benchmark writes them, made up: one file a process."""

import json
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
        "machine_info": {"fingerprint": machine, "cpu": {"brand_raw": "Example CPU", "count": 2}, "system": "Linux"},
        "commit_info": {"id": commit, "time": time, "dirty": dirty},
        "benchmarks": [
            {
                "group": "losses",
                "name": name,
                "fullname": f"bench/suites/test_losses.py::{name}",
                "extra_info": extra or {},
                "stats": {"median": value, "iqr": value / 50, "rounds": 20, "iterations": 1, "data": [value]},
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
