"""The commit of a checkout."""

import subprocess
from pathlib import Path

from bench.environment.circumstances import current_commit


def test_commit_says_whether_files_differ_and_a_folder_within_a_repository_has_none(tmp_path: Path) -> None:
    def git(*words: str) -> str:
        names = ["-c", "user.name=a", "-c", "user.email=a@b"]
        command = ["git", "-C", str(tmp_path), *names, *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    assert current_commit(tmp_path) == "unknown"
    git("init", "--quiet")
    assert current_commit(tmp_path) == "unknown"
    (tmp_path / "file").write_text("a")
    git("add", "file")
    git("commit", "--quiet", "--message", "a")
    commit = git("rev-parse", "HEAD")
    assert current_commit(tmp_path) == commit
    (tmp_path / "file").write_text("b")
    assert current_commit(tmp_path) == f"{commit}-dirty"
    (tmp_path / "folder").mkdir()
    assert current_commit(tmp_path / "folder") == "unknown"
