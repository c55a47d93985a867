"""A feature is a folder that can be deleted: everything else imports, passes the linter of imports, and is tested."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bench.environment.circumstances import CHECKOUT
from bench.extensions import FEATURES

IMPORT_ALL = """
import importlib, pathlib, sys
for folder in ("bench", "models", "losses", "reports"):
    for path in sorted(pathlib.Path(folder).rglob("*.py")):
        if path.stem != "__main__" and "suites" not in path.parts:
            importlib.import_module(".".join(path.with_suffix("").parts).removesuffix(".__init__"))
"""
CORE_TESTS = ("tests/test_layout.py", "tests/test_config.py", "tests/cli/test_cli_page.py", "tests/claims")


def run(copy: Path, *words: str) -> None:
    environment = os.environ | {"PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *words], cwd=copy, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{words}: {done.stdout[-3000:]}{done.stderr[-3000:]}"


@pytest.mark.minutes
@pytest.mark.parametrize("name", sorted(path.parent.name for path in FEATURES.glob("*/__init__.py")))
def test_everything_else_works_without_a_feature(name: str, tmp_path: Path) -> None:
    pytest.importorskip("importlinter", reason="import-linter is in the lint session")
    copy = tmp_path / "copy"
    hidden = shutil.ignore_patterns(".*", "__pycache__", "results")
    shutil.copytree(CHECKOUT, copy, ignore=hidden)
    shutil.rmtree(copy / "bench" / "features" / name)
    shutil.rmtree(copy / "tests" / "features" / name)
    run(copy, "-c", IMPORT_ALL)
    run(copy, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()")
    run(copy, "-m", "tests.cli.test_cli_page")  # which writes the page without the verbs of the feature
    run(copy, "-m", "pytest", "tests", "bench/suites", "-q", "--collect-only", "-p", "no:cacheprovider")
    run(copy, "-m", "pytest", *CORE_TESTS, "-q", "-m", "not minutes", "-p", "no:cacheprovider")
