"""What is missing on a bare machine is named with the command that brings it, before it is imported."""

import subprocess
import sys
import sysconfig
import tomllib
import venv
from pathlib import Path

import pytest

from bench.environment import requirements
from bench.environment.requirements import (
    find_unmet_requirements,
)

ROOT = Path(__file__).parents[2]
SITE = Path(sysconfig.get_path("purelib"))


def bare_python(folder: Path, *left_out: str, packages: bool = True) -> Path:
    """Make an environment of the installed packages, without those that begin with one of the names, or of none."""
    venv.create(folder, symlinks=True)
    site = folder / SITE.relative_to(sys.prefix)
    installed = (
        [path for path in map(Path, sys.path) if path.name == "site-packages"] if packages else []
    )
    for entry in (entry for path in installed for entry in path.iterdir()):
        is_left_out = bool(left_out) and entry.name.startswith(left_out)
        if not is_left_out and entry.suffix != ".pth" and not (site / entry.name).exists():
            (site / entry.name).symlink_to(entry)
    return folder / "bin" / "python"


def run(*words: object) -> tuple[int, str]:
    """Run a command in the checkout; return its exit code and output."""
    done = subprocess.run([*map(str, words)], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def test_verb_without_any_package_names_all_of_them_in_one_line(tmp_path: Path) -> None:
    code, output = run(bare_python(tmp_path / "bare", packages=False), "-m", "bench", "measure")
    assert code == 2
    (line,) = output.splitlines()
    assert line.startswith("error: No module named ")
    assert "python3 -m pip install" in line
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert all(one in line for one in project["dependencies"])


def test_package_outside_its_accepted_range_is_unmet(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = requirements.version
    versions = {"timm": "1.0.9", "torch": "2.11.0a0+gitabc", "simplejpeg": "2.0"}
    monkeypatch.setattr(requirements, "version", lambda name: versions.get(name) or installed(name))
    assert find_unmet_requirements() == ["timm>=1.0.31", "simplejpeg>=1.8,<2"]
