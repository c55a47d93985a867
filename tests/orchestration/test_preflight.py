"""What is checked and prepared before the first run of a comparison."""

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from msgspec.structs import replace

from bench.experiments import EXPERIMENTS
from bench.orchestration.comparison import Scope
from bench.orchestration.preflight import begin_comparison, open_comparison
from tests.data.shards import write_shards


def test_comparison_on_shards_decodes_nothing_of_the_pack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    experiment = replace(EXPERIMENTS["clip-tiny"], data=str(write_shards(tmp_path / "shards")))
    open_comparison(tmp_path / "results", [experiment], Scope("measure", 0), trained=False)
    assert not (tmp_path / "caches" / "catlip-bench").exists()


def test_comparisons_begun_at_once_have_names_of_their_own(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        names = [*pool.map(lambda _: begin_comparison(tmp_path, "smoke"), range(8))]
    assert len(set(names)) == 8
    assert all(re.fullmatch(r"\d{8}T\d{6}-smoke", name) for name in names)
    first = min(names)
    assert begin_comparison(tmp_path, "smoke") > max(names) > first


def test_reserved_names_of_the_past_are_forgotten(tmp_path: Path) -> None:
    (tmp_path / ".20260101T000000-smoke.begun").touch()
    name = begin_comparison(tmp_path, "smoke")
    assert [path.name for path in tmp_path.iterdir()] == [f".{name}.begun"]
