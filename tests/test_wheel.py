"""The wheel holds what a comparison reads and no more, and works in an environment of its own, outside a checkout."""

import os
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

from tests.test_extensions import SMALL

ROOT = Path(__file__).parents[1]
PACKAGES = ("bench", "losses", "models", "reports")
FOR_A_CHECKOUT = ("bench/suites/", "reports/screenshot.png")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def program(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`catlip-bench`, installed from the wheel into a new environment that borrows the packages of this one."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    (own_packages,) = folder.glob("lib/python*/site-packages")
    borrowed = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
    (own_packages / "borrowed.pth").write_text("\n".join(borrowed))
    pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python"), "install"]
    options = ["--quiet", "--no-index", "--no-deps", "--ignore-installed"]
    subprocess.run([*pip, *options, str(wheel)], check=True)
    return folder / "bin" / "catlip-bench"


def test_the_wheel_holds_the_files_of_the_packages_and_no_tests(wheel: Path) -> None:
    with ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    expected = set[str]()
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*"):
            name = path.relative_to(ROOT).as_posix()
            is_shipped = not name.startswith(FOR_A_CHECKOUT) and "__pycache__" not in name
            if path.is_file() and is_shipped:
                expected.add(name)
    assert names == expected
    assert {Path(name).suffix for name in names} >= {".csv", ".gz", ".html", ".toml", ".webp"}


def test_the_installed_program_compares_methods_outside_a_checkout(
    program: Path, tmp_path: Path
) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def call(*words: str) -> str:
        command = [str(program), *words]
        return subprocess.run(
            command, cwd=tmp_path, env=environment, check=True, stdout=subprocess.PIPE, text=True
        ).stdout

    place = "import bench; print(bench.__file__)"
    python = [str(program.with_name("python")), "-c", place]
    shown = subprocess.run(
        python, cwd=tmp_path, env=environment, check=True, stdout=subprocess.PIPE, text=True
    )
    assert Path(shown.stdout.strip()).is_relative_to(program.parents[1])
    assert "measure" in call("--help")
    assert "clip-vit-b16" in call("list")
    measured = call("measure", "clip-tiny", "catlip-tiny", "--rounds", "1", *SMALL)
    assert "Throughput of each experiment" in measured
    call("report", "build", "results")
    assert "CatLIP" in (tmp_path / "results" / "index.html").read_text(encoding="utf-8")
