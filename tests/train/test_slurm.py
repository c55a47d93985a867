"""The job scripts of `docs/slurm` run under a scheduler that is made of two shell scripts."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench.record import Training, read_records
from bench.train.checkpoints import latest_valid
from tests.processes import LONGEST_SECONDS

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "docs" / "slurm"
# One task on each node, all of them on this machine; ends with the code of the last task that failed.
SRUN = """#!/bin/bash
while [[ $1 == --* ]]; do shift; done
for ((node = 0; node < SLURM_JOB_NUM_NODES; node++)); do "$@" & done
code=0
for task in $(jobs -p); do wait "$task" || code=$?; done
exit "$code"
"""
SCONTROL = """#!/bin/bash
if [[ $1 == show ]]; then echo localhost; else echo "$@" > "$(dirname "$0")/requeued"; fi
"""


def free_port() -> str:
    with socket.socket() as one:
        one.bind(("localhost", 0))
        return str(one.getsockname()[1])


def submit(script: str, *arguments: str, commands: Path, **settings: str) -> "subprocess.CompletedProcess[str]":
    """Run a job script with SLURM's variables, and with the commands of a folder first."""
    path = os.pathsep.join([str(commands), str(Path(sys.executable).parent), os.environ["PATH"]])
    return subprocess.run(
        ["bash", str(SCRIPTS / script), *arguments],
        cwd=ROOT,
        env=os.environ | {"PATH": path, "GLOO_SOCKET_IFNAME": "lo"} | settings,
        capture_output=True,
        text=True,
        timeout=LONGEST_SECONDS,
        check=False,
    )


@pytest.mark.minutes
@pytest.mark.usefixtures("decoded")
def test_training_on_two_nodes_requeues_itself_and_then_ends(tmp_path: Path) -> None:
    """The first job has less time left than a training keeps for saving; the second has no limit."""
    commands, out = tmp_path / "bin", tmp_path / "out"
    commands.mkdir()
    for name, text in (("srun", SRUN), ("scontrol", SCONTROL)):
        (commands / name).write_text(text)
        (commands / name).chmod(0o755)
    train = [str(out), "catlip-tiny", "--images", "640", "--set", "batch_size=8", "--no-score"]
    job = {
        "SLURM_JOB_ID": "7",
        "SLURM_JOB_NODELIST": "node[1-2]",
        "SLURM_JOB_NUM_NODES": "2",
        "SLURM_GPUS_ON_NODE": "1",
        "RENDEZVOUS_PORT": free_port(),
        "OMP_NUM_THREADS": "1",
    }
    ending = {"SLURM_JOB_END_TIME": str(int(time.time()) + 60)}
    first = submit("train.sbatch", *train, commands=commands, **job, **ending)
    assert (commands / "requeued").read_text() == "requeue 7\n", first.stderr
    assert first.returncode != 0
    assert not [*out.glob("*.failure.*")]

    (commands / "requeued").unlink()
    second = submit("train.sbatch", *train, commands=commands, **job, SLURM_RESTART_COUNT="1")
    assert second.returncode == 0, second.stderr
    assert not (commands / "requeued").exists()
    (training,) = (record for record in read_records(out) if isinstance(record.measured, Training))
    assert training.circumstances.processes == 2
    assert latest_valid(out / "checkpoints")[1].processes == 2


@pytest.mark.minutes
def test_jobs_of_an_array_label_all_files_and_a_failed_one_is_repeated_alone(tmp_path: Path) -> None:
    files = [tmp_path / f"{number}.txt" for number in range(3)]
    for number, file in enumerate(files):
        file.write_text(f"a dog and {number} cats\n" * 3)
    out = tmp_path / "labels"
    options = [*map(str, files), "--vocabulary", "pack-synsets", "--out", str(out)]

    def run(task: int, **given: str) -> None:
        found = submit("label.sbatch", *options, commands=tmp_path, SLURM_ARRAY_TASK_ID=str(task), **given)
        assert found.returncode == 0, found.stderr

    for task in (1, 2):
        run(task, SLURM_ARRAY_TASK_COUNT="2")
    labels = {path.name: path.read_bytes() for path in out.glob("*.parquet")}
    assert len(labels) == 3
    (out / min(labels)).unlink()
    run(1, SLURM_ARRAY_TASK_COUNT="1", PARTS="2")
    assert {path.name: path.read_bytes() for path in out.glob("*.parquet")} == labels
