"""What is checked and prepared before the first run of a comparison."""

from pathlib import Path

import pytest
from msgspec.structs import replace

from bench.experiments import EXPERIMENTS
from bench.orchestration.comparison import Scope
from bench.orchestration.preflight import open_comparison
from tests.data.shards import write_shards


def test_comparison_on_shards_decodes_nothing_of_the_pack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    experiment = replace(EXPERIMENTS["clip-tiny"], data=str(write_shards(tmp_path / "shards")))
    open_comparison(tmp_path / "results", [experiment], Scope("measure", 0), trained=False)
    assert not (tmp_path / "caches" / "catlip-bench").exists()
