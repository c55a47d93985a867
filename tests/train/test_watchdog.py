"""A process of a group that takes no step for long says where it stands, and ends."""

import os
import subprocess
import sys
from pathlib import Path

from bench.environment.variables import WATCHDOG_SECONDS

ROOT = Path(__file__).parents[2]
STANDS_STILL = """
import sys, time
import torch.distributed as dist
from bench.train.distributed import rearm_stack_dump_timer
def here(seconds):
    time.sleep(seconds)
rearm_stack_dump_timer()
here(1.2)
print("went on alone", flush=True)
dist.init_process_group("gloo", init_method=f"file://{sys.argv[1]}/meeting", rank=0, world_size=1)
rearm_stack_dump_timer()
here(60)
print("went on in a group")
"""


def test_stalled_rank_is_reported_with_its_stack_and_a_process_of_no_group_is_left_alone(
    tmp_path: Path,
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", STANDS_STILL, str(tmp_path)],
        cwd=ROOT,
        env=os.environ | {WATCHDOG_SECONDS: "1", "GLOO_SOCKET_IFNAME": "lo"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "went on alone\n"), done.stderr
    assert done.stderr.count("in here") == 1
