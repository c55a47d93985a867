"""What is missing on a bare machine is named with the command that brings it, before it is imported."""

import subprocess
import sys
import sysconfig
import tomllib
import venv
from pathlib import Path

import pytest

from bench.environment import requirements
from bench.environment.requirements import unmet_requirements, wheels_to_bring

ROOT = Path(__file__).parents[2]
SITE = Path(sysconfig.get_path("purelib"))


def bare_python(folder: Path, *left_out: str, packages: bool = True) -> Path:
    """Make an environment of the installed packages, without those that begin with one of the names, or of none."""
    venv.create(folder, symlinks=True)
    site = folder / SITE.relative_to(sys.prefix)
    for entry in SITE.iterdir() if packages else ():
        if not entry.name.startswith(left_out or ("-",)) and not (site / entry.name).exists():
            (site / entry.name).symlink_to(entry)
    return folder / "bin" / "python"


def run(*words: object) -> tuple[int, str]:
    """Run a command in the checkout; return its exit code and output."""
    done = subprocess.run([*map(str, words)], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def test_verb_without_any_package_names_all_of_them_in_one_line(tmp_path: Path) -> None:
    code, output = run(bare_python(tmp_path / "bare", packages=False), "-m", "bench", "gpu")
    assert code == 2
    (line,) = output.splitlines()
    assert line.startswith("error: No module named ")
    assert "python3 -m pip install" in line
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert all(one in line for one in project["dependencies"])


@pytest.mark.parametrize(
    ("folders", "package"),
    [(("pynvml", "nvidia_ml_py"), "nvidia-ml-py>=12.560"), (("open_clip",), "open_clip_torch>=3.3,<4")],
)
def test_single_missing_package_is_named_without_a_traceback(
    folders: tuple[str, ...], package: str, tmp_path: Path
) -> None:
    python = bare_python(tmp_path / "python", *folders)
    code, output = run(python, "-m", "bench.cli.gpu_preflight", "cpu")
    assert code == 1
    assert f"packages are missing: python3 -m pip install '{package}' (" in output
    assert "Traceback" not in output
    code, output = run(python, "-m", "bench", "gpu", "--device", "cpu", "--results", tmp_path / "results")
    assert code in (2, 3)  # the verb cannot start, or its first step fails
    assert f"'{package}'" in output
    assert "Traceback" not in output


def test_preflight_of_a_bare_gpu_machine_names_the_driver_and_the_compiler(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    from bench.cli.gpu_preflight import name_missing

    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(requirements.sysconfig, "get_path", lambda _: str(tmp_path))
    monkeypatch.setattr(requirements, "SHARED_MEMORY", tmp_path / "absent")
    monkeypatch.setattr(requirements, "find_spec", lambda _: None)
    monkeypatch.setattr(requirements.ctypes, "CDLL", lambda _: (_ for _ in ()).throw(OSError))
    with pytest.raises(SystemExit, match="5 of the tools that runs need are missing"):
        name_missing("cuda")
    lines = capsys.readouterr().out.splitlines()
    for what, remedy in (
        ("C++ compiler", "apt-get install g++"),
        ("Python.h", f"apt-get install python3.{sys.version_info.minor}-dev"),
        ("driver", "docker run --gpus all"),
        ("Triton", "pip install triton"),
        ("1 GiB in", "docker run --shm-size=8g"),
    ):
        assert [line for line in lines if line.startswith(f"{what}") and " is missing: " in line and remedy in line]


def test_package_outside_its_accepted_range_is_unmet(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = requirements.version
    versions = {"timm": "1.0.9", "torch": "2.11.0a0+gitabc", "simplejpeg": "2.0"}
    monkeypatch.setattr(requirements, "version", lambda name: versions.get(name) or installed(name))
    assert unmet_requirements() == ["timm>=1.0.15", "simplejpeg>=1.8,<2"]


def test_wheels_to_bring_are_all_that_the_requirements_need_but_torch() -> None:
    brought = {one.partition("==")[0] for one in wheels_to_bring()}
    assert {"open-clip-torch", "nvidia-ml-py", "pytest", "huggingface-hub", "tyro"} <= brought
    assert brought.isdisjoint({"torch", "torchvision", "triton", "ruff"})
