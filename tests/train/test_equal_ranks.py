"""Ranks that read other data are refused before the first step."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from bench.console.console import UserError
from bench.environment.circumstances import CHECKOUT, COMMAND, digest_program_files
from bench.environment.torchrun_ranks import MIXED_MACHINES
from bench.experiment.config import Experiment
from bench.train import equal_ranks
from bench.train.equal_ranks import require_equal_ranks_and_collect_circumstances
from tests.data.shards import webdataset_members, write_shard, write_shards
from tests.processes import in_ranks
from tests.small import small


def error_of(experiment: Experiment | None) -> str:
    """Return the error of ranks that differ, or nothing."""
    try:
        require_equal_ranks_and_collect_circumstances(experiment, torch.device("cpu"))
    except UserError as error:
        return str(error)
    return ""


def with_another_shard(path: Path) -> None:
    write_shard(path / "00001.tar", webdataset_members(0, 12))


def with_nothing(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))


CHANGES: dict[str, Callable[[Path], None]] = {
    "equal": lambda _: None,
    "more": with_another_shard,
    "none": with_nothing,
}


def refused(rank: int, _ranks: int, folder: Path) -> dict[str, str]:
    """Return the errors of a rank whose node has the data in a folder of its own, by what is changed in one."""
    os.chdir(folder / f"node {rank}")
    return {name: error_of(small("clip", data=name)) for name in CHANGES}


def test_ranks_with_other_data_are_refused_by_their_numbers(tmp_path: Path) -> None:
    for name, change in CHANGES.items():
        for rank in range(3):
            write_shards(tmp_path / f"node {rank}" / name)
        change(tmp_path / "node 1" / name)
    first, *others = in_ranks(refused, 3, tmp_path, tmp_path)
    assert others == [first, first]
    assert first.pop("equal") == ""
    for name, error in first.items():
        assert error.startswith("rank 1 (")
        assert f"has another data={name} or what belongs to it than rank 0" in error
        assert "rank 2 (" not in error
        assert "\n" not in error


def refused_facts(rank: int, _ranks: int) -> list[str]:
    """Return the errors where one rank has another command line or processor, and where that is allowed."""
    errors = []
    for name, value, allowed in (
        ("command_line", f"train clip-tiny --set seed={int(rank == 1)}", ""),
        ("processors", f"cpu {rank}", ""),
        ("processors", f"cpu {rank}", "1"),
    ):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(MIXED_MACHINES, allowed)
            if name == "processors":
                patch.setattr(equal_ranks, "describe_gpu_and_cpu", lambda _, text=value: text)
            else:
                patch.setenv(COMMAND, value)
            errors.append(error_of(None))
    return errors


def test_ranks_with_another_command_line_or_processor_are_refused(tmp_path: Path) -> None:
    errors = in_ranks(refused_facts, 3, tmp_path)
    assert errors[0] == errors[1] == errors[2]
    command, processors, allowed = errors[0]
    assert "has another command line than rank 0: train clip-tiny --set seed=1, not" in command
    assert "rank 2" not in command
    assert "rank 1" in processors
    assert "rank 2" in processors
    assert allowed == ""


def test_digest_of_the_sources_changes_with_a_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert digest_program_files() == digest_program_files()
    module = tmp_path / "bench" / "train" / "loop.py"
    module.parent.mkdir(parents=True)
    module.write_bytes((CHECKOUT / "bench" / "train" / "loop.py").read_bytes())
    monkeypatch.setattr("bench.environment.circumstances.CHECKOUT", tmp_path)
    before = digest_program_files()
    (tmp_path / "bench" / "data" / "pack").mkdir(parents=True)
    (tmp_path / "bench" / "data" / "pack" / "part.tar").touch()
    (tmp_path / "bench" / "train" / "__pycache__").mkdir()
    (tmp_path / "bench" / "train" / "__pycache__" / "loop.pyc").touch()
    assert digest_program_files() == before
    module.write_text(module.read_text() + "\n")
    assert digest_program_files() != before
