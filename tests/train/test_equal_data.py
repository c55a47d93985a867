"""Ranks that read other data are refused before the first step."""

import os
from pathlib import Path

import pytest

from bench.console.console import UserError
from bench.environment.circumstances import CHECKOUT, COMMAND, sources_digest
from bench.train.equal_data import require_equal_data, require_equal_sources
from tests.data.shards import webdataset_members, write_shard, write_shards
from tests.processes import in_ranks
from tests.small import small


def refused(rank: int, _ranks: int, folder: Path) -> str:
    """Return the error of a rank whose node has the data in a folder of its own, or nothing."""
    os.chdir(folder / f"node {rank}")
    try:
        require_equal_data(small("clip", data="data"))
    except UserError as error:
        return str(error)
    return ""


def equal(path: Path) -> None:
    """Leave the data as they are."""


def another_shard(path: Path) -> None:
    write_shard(path / "00001.tar", webdataset_members(0, 12))


def nothing(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))


@pytest.mark.parametrize("change", [equal, another_shard, nothing])
def test_ranks_with_other_data_are_refused_by_their_numbers(change: object, tmp_path: Path) -> None:
    for rank in range(3):
        write_shards(tmp_path / f"node {rank}" / "data")
    assert callable(change)
    change(tmp_path / "node 1" / "data")
    found = in_ranks(refused, 3, tmp_path, tmp_path)
    assert len({*found}) == 1
    if change is equal:
        assert found[0] == ""
    else:
        assert found[0].startswith("the ranks read other data=data (shards, labels, ")
        assert "; rank 1 (" in found[0]
        assert "; rank 2 (" not in found[0]
        assert "\n" not in found[0]


def refused_sources(rank: int, _ranks: int) -> str:
    """Return the error of a rank that was started by another command line than the others."""
    os.environ[COMMAND] = f"catlip-bench train clip-tiny --set seed={int(rank == 1)}"
    try:
        require_equal_sources()
    except UserError as error:
        return str(error)
    return ""


def test_ranks_with_another_command_line_are_refused_by_their_numbers(tmp_path: Path) -> None:
    errors = in_ranks(refused_sources, 3, tmp_path)
    assert len({*errors}) == 1
    assert errors[0].startswith(
        "rank 1 has another command than rank 0 (catlip-bench train clip-tiny --set seed=1; "
    )
    assert errors[0].endswith("start all ranks by the same command, from equal checkouts")
    assert "rank 2" not in errors[0]


def test_digest_of_the_sources_changes_with_a_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert sources_digest() == sources_digest()
    module = tmp_path / "bench" / "train" / "loop.py"
    module.parent.mkdir(parents=True)
    module.write_bytes((CHECKOUT / "bench" / "train" / "loop.py").read_bytes())
    monkeypatch.setattr("bench.environment.circumstances.CHECKOUT", tmp_path)
    before = sources_digest()
    (tmp_path / "bench" / "data" / "pack").mkdir(parents=True)
    (tmp_path / "bench" / "data" / "pack" / "part.tar").touch()
    (tmp_path / "bench" / "train" / "__pycache__").mkdir()
    (tmp_path / "bench" / "train" / "__pycache__" / "loop.pyc").touch()
    assert sources_digest() == before
    module.write_text(module.read_text() + "\n")
    assert sources_digest() != before
