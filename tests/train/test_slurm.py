"""The job scripts of `docs/slurm` run under a scheduler that is made of two shell scripts."""

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from bench.records.record import Training, read_records
from bench.train.checkpoints import find_latest_valid_checkpoint
from tests.data.shards import write_shards
from tests.processes import LONGEST_SECONDS, free_port

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


def start_job(
    script: str, *arguments: str, commands: Path, **settings: str
) -> "subprocess.Popen[str]":
    """Start a job script with SLURM's variables, and with the commands of a folder first."""
    path = os.pathsep.join([str(commands), str(Path(sys.executable).parent), os.environ["PATH"]])
    return subprocess.Popen(
        ["bash", str(SCRIPTS / script), *arguments],
        cwd=ROOT,
        env=os.environ | {"PATH": path, "GLOO_SOCKET_IFNAME": "lo"} | settings,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def submit(script: str, *arguments: str, commands: Path, **settings: str) -> tuple[int, str]:
    """Run a job script; return its exit code and what it prints to stderr."""
    job = start_job(script, *arguments, commands=commands, **settings)
    _, text = job.communicate(timeout=LONGEST_SECONDS)
    return job.returncode, text


@pytest.fixture
def commands(tmp_path: Path) -> Path:
    """The folder of SLURM's commands."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, text in (("srun", SRUN), ("scontrol", SCONTROL)):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    return folder


@pytest.fixture
def slurm_environment() -> dict[str, str]:
    """The variables of a job on two nodes."""
    return {
        "SLURM_JOB_ID": "7",
        "SLURM_JOB_NODELIST": "node[1-2]",
        "SLURM_JOB_NUM_NODES": "2",
        "SLURM_GPUS_ON_NODE": "1",
        "RENDEZVOUS_PORT": str(free_port()),
        "OMP_NUM_THREADS": "1",
    }


def test_job_that_fails_is_requeued_while_its_checkpoints_advance(
    tmp_path: Path, commands: Path, slurm_environment: dict[str, str]
) -> None:
    """As after an abort of NCCL, whose processes end without leaving the file `requeue`."""
    (commands / "srun").write_text(
        f"#!/bin/bash\nmkdir -p {tmp_path}/out/checkpoints/step-00000005\nexit 134\n"
    )
    for is_requeued in (True, False):
        code, text = submit(
            "train.sbatch", str(tmp_path / "out"), "clip", commands=commands, **slurm_environment
        )
        assert code == 134, text
        assert (commands / "requeued").exists() == is_requeued
        (commands / "requeued").unlink(missing_ok=True)


@pytest.mark.slow
def test_training_on_two_nodes_saves_and_requeues_itself_when_signalled_and_then_ends(
    tmp_path: Path, commands: Path, slurm_environment: dict[str, str]
) -> None:
    """SLURM signals the loader workers, too, and torchrun signals its own processes once more."""
    out, data = tmp_path / "out", write_shards(tmp_path / "data")
    settings = [
        f"--set=data={data}",
        "--set=subword_vocabulary=all",
        "--set=batch_size=8",
        "--set=workers=1",
    ]
    train = [str(out), "clip-tiny", "--images-seen", "320", "--no-score", *settings]
    job = start_job("train.sbatch", *train, commands=commands, **slurm_environment)
    try:
        lines = iter(job.stderr or ())
        text = next(
            (line for line in lines if "steps, loss" in line), "it ended before its first step"
        )
        children = psutil.Process(job.pid).children(recursive=True)
        with suppress(psutil.NoSuchProcess):  # it has ended meanwhile
            for child in children:
                # And not what stands for srun, which SLURM does not signal.
                if "python" in child.exe():
                    child.terminate()
        text += job.communicate(timeout=LONGEST_SECONDS)[1]
    finally:
        job.kill()
    assert job.returncode != 0
    assert (commands / "requeued").read_text() == "requeue 7\n", text
    assert not [*out.glob("*.failure.*")]
    assert 0 < find_latest_valid_checkpoint(out / "checkpoints")[1].steps_taken < 20

    (commands / "requeued").unlink()
    code, text = submit(
        "train.sbatch", *train, commands=commands, **slurm_environment, SLURM_RESTART_COUNT="1"
    )
    assert code == 0, text
    assert not (commands / "requeued").exists()
    (training,) = (record for record in read_records(out) if isinstance(record.measured, Training))
    assert training.circumstances.processes == 2
    assert find_latest_valid_checkpoint(out / "checkpoints")[1].processes == 2
