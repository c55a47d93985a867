"""Packages and tools that a run needs, and the commands that bring them. Only Python's own modules are imported here.

`python -m bench.environment.requirements` prints the requirements of `pyproject.toml` that are not met here, one a
line, for `pip install -r /dev/stdin`.
"""

import ctypes
import re
import shutil
import sys
import sysconfig
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"
# Official images of PyTorch mark their Python as externally managed, and NVIDIA's images set a file of constraints.
PIP_INSTALL = "PIP_BREAK_SYSTEM_PACKAGES=1 PIP_CONSTRAINT= python3 -m pip install"
APT_INSTALL = "apt-get update && apt-get install -y"


@dataclass(frozen=True, slots=True)
class SystemRequirement:
    """A tool that runs need, where it is on this machine, and how to install it."""

    name: str
    location: str  # path, or "installed"; empty: it is missing
    remedy: str


def find_unmet_requirements(*extras: str) -> list[str]:
    """Return the requirements of a checkout and of these extras that are missing, or installed in another version.

    Outside a checkout there is none: pip has installed them with this package.
    """
    if not PYPROJECT.is_file():
        return []
    project = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]
    requirements = list(project["dependencies"])
    for extra in extras:
        requirements += project["optional-dependencies"][extra]
    return [requirement for requirement in requirements if not _is_requirement_met(requirement)]


def pip_install_command(packages: Sequence[str]) -> str:
    """Return the shell command that installs packages by pip, with a hint for a folder of wheels."""
    quoted = " ".join(f"'{requirement}'" for requirement in packages)
    return f"{PIP_INSTALL} {quoted} (from a folder of wheels: add --no-index --find-links wheels)"


def locate_compiler_requirements() -> Iterator[SystemRequirement]:
    """Yield the C++ compiler and the header that torch.compile needs; a missing one has an empty `location`."""
    compiler = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++") or ""
    yield SystemRequirement("C++ compiler", compiler, f"{APT_INSTALL} g++")
    header = Path(sysconfig.get_path("include"), "Python.h")
    header_path = str(header) if header.is_file() else ""
    python = f"python{sys.version_info.major}.{sys.version_info.minor}"
    yield SystemRequirement("Python.h", header_path, f"{APT_INSTALL} {python}-dev")


def check_driver_and_triton() -> Iterator[SystemRequirement]:
    """Yield the driver and Triton, which a run on a GPU needs in addition; a missing one has an empty `location`."""
    driver = "libcuda.so.1"
    try:
        ctypes.CDLL(driver)
    except OSError:
        driver = ""
    remedy = "start the container with its GPUs (docker run --gpus all), or install NVIDIA's driver"
    yield SystemRequirement("driver", driver, remedy)
    triton = "installed" if find_spec("triton") else ""
    yield SystemRequirement("Triton", triton, f"{PIP_INSTALL} triton, as torch asks for")


def _is_requirement_met(requirement: str) -> bool:
    """Return whether a requirement, such as "numpy>=2.1,<3", is met by the installed package."""
    name, *limits = re.split("([<>]=?)", requirement.replace(",", ""))
    try:
        installed = _parse_version_numbers(version(name))
    except PackageNotFoundError:
        return False
    for operator, limit in zip(limits[::2], limits[1::2], strict=True):
        is_new_enough = installed >= _parse_version_numbers(limit)
        if is_new_enough != (operator == ">="):
            return False
    return True


def _parse_version_numbers(text: str) -> list[int]:
    numbers = re.match(r"[\d.]*\d", text)
    assert numbers is not None, f"{text!r} is no version"
    return [int(number) for number in numbers[0].split(".")]


if __name__ == "__main__":
    print("\n".join(find_unmet_requirements("tests")))
