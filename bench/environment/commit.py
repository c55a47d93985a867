"""The commit of this project."""

import subprocess
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]


def current_commit() -> str:
    """Return the commit of this checkout, with "-dirty" appended if tracked files differ; "unknown" outside git."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(CHECKOUT), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("-dirty" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
