"""What is missing on a bare machine is named with the command that brings it, before it is imported."""

import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

from bench.environment import requirements
from bench.environment.requirements import (
    PIP_INSTALL,
    install_command,
    unmet_requirements,
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
    assert unmet_requirements() == ["timm>=1.0.31", "simplejpeg>=1.8,<2"]


@pytest.fixture
def image_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A Python as in container images of PyTorch: externally managed, with a file of constraints."""
    home, version = tmp_path / "image", f"python3.{sys.version_info.minor}"
    library = home / "lib" / version
    (library / "site-packages").mkdir(parents=True)
    for entry in Path(sysconfig.get_path("stdlib")).iterdir():
        if entry.name not in ("site-packages", "EXTERNALLY-MANAGED"):
            (library / entry.name).symlink_to(entry)
    constraints = tmp_path / "constraint.txt"
    constraints.write_text("tiny==1\n")
    python = str(Path(sys.base_prefix, "bin", version))
    # It is no virtual environment, where pip would always install.
    monkeypatch.setenv("PYTHONHOME", str(home))
    code, output = run(python, "-m", "ensurepip")
    assert code == 0, output
    (library / "EXTERNALLY-MANAGED").write_text(
        "[externally-managed]\nError=this Python is the image's\n"
    )
    monkeypatch.setenv("PIP_CONSTRAINT", str(constraints))
    monkeypatch.setenv("PIP_DISABLE_PIP_VERSION_CHECK", "1")
    return python


def write_wheel(folder: Path) -> None:
    """Write version 2 of the package `tiny`."""
    folder.mkdir()
    info = "tiny-2.dist-info"
    with zipfile.ZipFile(folder / "tiny-2-py3-none-any.whl", "w") as wheel:
        wheel.writestr("tiny.py", "")
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 2\n")
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", "")


def test_documented_line_installs_where_an_image_forbids_it(
    image_python: str, tmp_path: Path
) -> None:
    write_wheel(tmp_path / "wheels")

    def install(settings: str) -> tuple[int, str]:
        options = f"-m pip install --no-index --find-links {tmp_path / 'wheels'} tiny"
        return run("bash", "-c", f"{settings} {image_python} {options}")

    settings = PIP_INSTALL.partition(" python3 ")[0]
    assert settings in (ROOT / "docs" / "gpu.md").read_text()
    assert settings in install_command(["tiny"])
    code, output = install("")
    assert code != 0
    assert "this Python is the image's" in output
    code, output = install("PIP_BREAK_SYSTEM_PACKAGES=1")
    assert code != 0
    assert "tiny==1" in output
    code, output = install(settings)
    assert code == 0, output
