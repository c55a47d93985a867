"""The commit of a checkout, and of a copy without git."""

import subprocess
from pathlib import Path

import pytest

from bench.environment import circumstances
from bench.environment.circumstances import describe_current_commit

COMMIT = "0123456789abcdef" * 2 + "01234567"


@pytest.fixture
def copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of some sources, inside another repository."""
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    module = tmp_path / "copy" / "bench" / "module.py"
    module.parent.mkdir(parents=True)
    module.write_text("x = 1\n")
    monkeypatch.setattr(circumstances, "CHECKOUT", tmp_path / "copy")
    monkeypatch.delenv("CATLIP_BENCH_COMMIT", raising=False)
    return module


def test_copy_without_git_has_the_commit_of_its_variable_or_a_digest_of_its_sources(
    copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = describe_current_commit()
    assert before.startswith("sources-")
    copied.write_text("x = 2\n")
    assert describe_current_commit().startswith("sources-")
    assert describe_current_commit() != before
    monkeypatch.setenv("CATLIP_BENCH_COMMIT", COMMIT)
    assert describe_current_commit() == COMMIT
    assert describe_current_commit(copied.parent) == "unknown"  # another checkout


def test_commit_says_whether_files_differ_and_a_folder_within_a_repository_has_none(
    tmp_path: Path,
) -> None:
    def git(*words: str) -> str:
        names = ["-c", "user.name=a", "-c", "user.email=a@b"]
        command = ["git", "-C", str(tmp_path), *names, *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    assert describe_current_commit(tmp_path) == "unknown"
    git("init", "--quiet")
    assert describe_current_commit(tmp_path) == "unknown"
    (tmp_path / "file").write_text("a")
    git("add", "file")
    git("commit", "--quiet", "--message", "a")
    commit = git("rev-parse", "HEAD")
    assert describe_current_commit(tmp_path) == commit
    (tmp_path / "file").write_text("b")
    assert describe_current_commit(tmp_path) == f"{commit}-dirty"
    (tmp_path / "folder").mkdir()
    assert describe_current_commit(tmp_path / "folder") == "unknown"
