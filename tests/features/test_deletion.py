"""A feature is a folder that can be deleted: everything else imports, keeps its layers, is tested, and compares."""

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from bench.environment.circumstances import CHECKOUT
from bench.interfaces.extensions import FEATURES

IMPORT_ALL = """
import importlib, pathlib, sys
for folder in ("bench", "models", "losses", "reports"):
    for path in sorted(pathlib.Path(folder).rglob("*.py")):
        if path.stem != "__main__" and "suites" not in path.parts:
            importlib.import_module(".".join(path.with_suffix("").parts).removesuffix(".__init__"))
"""
CORE_TESTS = ("tests/test_layout.py", "tests/test_config.py", "tests/cli/test_cli_page.py")


NAMES = sorted(path.parent.name for path in FEATURES.glob("*/__init__.py"))


def run(copy: Path, *words: str) -> None:
    environment = os.environ | {
        "PYTHONPATH": str(copy),
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        [sys.executable, *words],
        cwd=copy,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{words}: {done.stdout[-3000:]}{done.stderr[-3000:]}"


def names_left_out(folder: str, names: list[str]) -> set[str]:
    """Return the names in a folder that are not copied: hidden ones, and in the checkout what commands write."""
    outputs = {"results"} if Path(folder) == CHECKOUT else set[str]()
    return outputs | {name for name in names if name.startswith(".") or name == "__pycache__"}


@pytest.mark.exhaustive
@pytest.mark.parametrize("names", [*([name] for name in NAMES), NAMES], ids="-".join)
def test_everything_else_works_without_features(names: list[str], tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(CHECKOUT, copy, ignore=names_left_out)
    for name in names:
        shutil.rmtree(copy / "bench" / "features" / name)
        shutil.rmtree(copy / "tests" / "features" / name)
    run(copy, "-c", IMPORT_ALL)
    if find_spec("importlinter") is not None:  # it is in the lint session
        run(copy, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()")
    # Which writes the page without the verbs of the feature.
    run(copy, "-m", "tests.cli.test_cli_page")
    run(
        copy,
        "-m",
        "pytest",
        "tests",
        "bench/suites",
        "-q",
        "--collect-only",
        "-p",
        "no:cacheprovider",
    )
    run(copy, "-m", "pytest", *CORE_TESTS, "-q", "-m", "not slow", "-p", "no:cacheprovider")
    if names == NAMES:
        run(copy, "-m", "bench", "--smoke", "--results", str(tmp_path / "results"))
        run(
            copy,
            "-m",
            "bench",
            "report",
            "build",
            str(tmp_path / "results"),
            "--out",
            str(tmp_path / "page.html"),
        )
