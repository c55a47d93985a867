"""A process of a group that takes no step for long says where it stands, and ends."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.train.distributed import WATCHDOG_SECONDS

ROOT = Path(__file__).parents[2]
STANDS_STILL = """
import sys, time
import torch.distributed as dist
from bench.train.distributed import rearm_stack_dump_timer
if len(sys.argv) > 1:
    dist.init_process_group("gloo", init_method=f"file://{sys.argv[1]}/meeting", rank=0, world_size=1)
def here():
    time.sleep(60 if len(sys.argv) > 1 else 2)
rearm_stack_dump_timer()
here()
print("went on")
"""


@pytest.mark.parametrize("joined", [True, False])
def test_stalled_rank_is_reported_with_its_stack(joined: bool, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", STANDS_STILL, *([str(tmp_path)] if joined else [])],
        cwd=ROOT,
        env=os.environ | {WATCHDOG_SECONDS: "1", "GLOO_SOCKET_IFNAME": "lo"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, "went on" in done.stdout) == ((1, False) if joined else (0, True)), done.stderr
    assert ("in here" in done.stderr) == joined
