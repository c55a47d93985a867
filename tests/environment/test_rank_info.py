"""What torchrun tells a process of it."""

from pathlib import Path

import pytest

from bench.cli.train import Train
from bench.console import command_line
from bench.console.command_line import parent_command_line, program_command_line
from bench.environment import rank_info
from bench.environment.rank_info import RankInfo, describe_node

OPTIONS = [
    "--nnodes",
    "4",
    "--nproc-per-node",
    "8",
    "--rdzv-backend",
    "c10d",
    "--rdzv-endpoint",
    "first:29400",
]
TRAIN = ["-m", "bench", "train", "clip-tiny"]


@pytest.mark.parametrize(
    ("parent", "words"),
    [
        (
            ["/usr/bin/python3", "/opt/bin/torchrun", *OPTIONS, *TRAIN],
            ["torchrun", *OPTIONS, *TRAIN[:2]],
        ),
        (
            ["python", "-m", "torch.distributed.run", *OPTIONS, *TRAIN],
            ["torchrun", *OPTIONS, *TRAIN[:2]],
        ),
        (["slurmstepd: [1.0]"], ["torchrun", "--nproc-per-node", "8", *TRAIN[:2]]),
        ([], ["torchrun", "--nproc-per-node", "8", *TRAIN[:2]]),
    ],
)
def test_several_processes_are_started_with_the_options_of_torchrun(
    parent: list[str], words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command_line, "torchrun_env", lambda: RankInfo(0, 32, 0, 8))
    assert program_command_line(parent) == words


def test_process_alone_is_started_as_it_was() -> None:
    assert program_command_line(["bash"]) == ["python", "-m", "bench"]


def test_first_process_of_a_container_has_a_resume_command(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("os.getppid", lambda: 0)
    assert parent_command_line() == []
    (tmp_path / "checkpoints" / "step-00000005").mkdir(parents=True)
    hint = Train("clip-tiny", out=tmp_path).resume_hint
    assert hint == f"resume with: python -m bench train clip-tiny --out {tmp_path} --resume"


def test_node_has_torchruns_number_where_nodes_have_unequal_numbers_of_processes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("GROUP_RANK", raising=False)
    monkeypatch.setattr(rank_info, "torchrun_env", lambda: RankInfo(3, 6, 1, 2))
    assert describe_node().endswith(", node 1")
    monkeypatch.setenv("GROUP_RANK", "2")  # after nodes of one process each
    assert describe_node().endswith(", node 2")
