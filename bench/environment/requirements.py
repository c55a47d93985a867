"""Packages and tools that a run needs, and the commands that bring them. Only Python's own modules are imported here.

`python -m bench.environment.requirements` prints the requirements of `pyproject.toml` that are not met here, one a
line, for `pip install -r /dev/stdin`; with `--wheels` the installed packages, pinned, that meet all of them elsewhere.
"""

import ctypes
import re
import shutil
import sys
import sysconfig
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution, version
from importlib.util import find_spec
from pathlib import Path

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"
ENVIRONMENTS_OWN = ("torch", "torchvision")  # built for the driver of a machine: never replaced
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - where loader workers leave their batches
# Two batches of 256 images of 224 px for each of 13 loader workers; 64 MB, Docker's default, hold those of one.
MIN_SHARED_BYTES = 2**30
# Official images of PyTorch mark their Python as externally managed, and NVIDIA's images set a file of constraints.
PIP_INSTALL = "PIP_BREAK_SYSTEM_PACKAGES=1 PIP_CONSTRAINT= python3 -m pip install"
APT_INSTALL = "apt-get update && apt-get install -y"


@dataclass(frozen=True, slots=True)
class SystemRequirement:
    """A tool that runs need: where or how much of it is here ("": it is missing), and what brings it."""

    what: str
    found: str
    remedy: str


def requirements(*extras: str) -> list[str]:
    """Return the project's requirements, as pip writes them, with those of its extras."""
    project = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]
    return [*project["dependencies"], *(one for extra in extras for one in project["optional-dependencies"][extra])]


def unmet_requirements(*extras: str) -> list[str]:
    """Return the requirements whose package is missing, or older than the oldest version that is accepted."""
    return [one for one in requirements(*extras) if not _is_met(one)]


def install_command(needed: Sequence[str]) -> str:
    """Return the command that installs packages from a folder of wheels, or from an index."""
    quoted = " ".join(f"'{one}'" if re.search(r"[^\w.=-]", one) else one for one in needed)
    return f"{PIP_INSTALL} {quoted} (from a folder of wheels: add --no-index --find-links wheels)"


def compiler_requirements() -> Iterator[SystemRequirement]:
    """Yield what torch.compile needs beside packages."""
    header = Path(sysconfig.get_path("include"), "Python.h")
    python = f"python{sys.version_info.major}.{sys.version_info.minor}"
    compiler = next(filter(None, map(shutil.which, ("c++", "g++", "clang++"))), "")
    yield SystemRequirement("C++ compiler", compiler, f"{APT_INSTALL} g++")
    yield SystemRequirement("Python.h", str(header) if header.is_file() else "", f"{APT_INSTALL} {python}-dev")


def gpu_requirements() -> Iterator[SystemRequirement]:
    """Yield what a run on a GPU needs beside them."""
    try:
        ctypes.CDLL("libcuda.so.1")
        driver = "libcuda.so.1"
    except OSError:
        driver = ""
    yield SystemRequirement(
        "driver", driver, "start the container with its GPUs (docker run --gpus all), or install NVIDIA's driver"
    )
    triton = "installed" if find_spec("triton") else ""
    yield SystemRequirement("Triton", triton, f"{PIP_INSTALL} triton, as torch asks for")


def shared_memory_warning() -> str:
    """Return what small shared memory costs and what enlarges it; empty where there is enough."""
    size = shutil.disk_usage(SHARED_MEMORY).total if SHARED_MEMORY.is_dir() else 0
    if size >= MIN_SHARED_BYTES:
        return ""
    return (
        f"{SHARED_MEMORY} has {size / 2**20:.0f} MiB, so that fewer loader workers fit: "
        f"mount -o remount,size=8G {SHARED_MEMORY}, or docker run --shm-size=8g"
    )


def wheels_for_offline_install() -> list[str]:
    """Return the installed packages that the project and its tests need, pinned, without torch and what it needs."""
    found, seen, left = set[str](), set[str](), requirements("tests")
    while left:
        requirement = left.pop()
        name, extras = _package_name(requirement), re.findall(r"[\w-]+", "".join(re.findall(r"\[(.*?)\]", requirement)))
        if requirement in seen or name in ENVIRONMENTS_OWN:
            continue
        seen.add(requirement)
        with suppress(PackageNotFoundError):  # of another platform or Python
            package = distribution(name)
            found.add(f"{name}=={package.version}")
            needed = {one: re.search(r"extra == ['\"]([\w-]+)", one) for one in package.requires or ()}
            left += [one for one, extra in needed.items() if extra is None or extra[1] in extras]
    return sorted(found)


def _is_met(requirement: str) -> bool:
    oldest, newer = re.search(r">=([\d.]+)", requirement), re.search(r"<([\d.]+)", requirement)
    try:
        here = _numbers(version(_package_name(requirement)))
    except PackageNotFoundError:
        return False
    return (not oldest or here >= _numbers(oldest[1])) and (not newer or here < _numbers(newer[1]))


def _package_name(requirement: str) -> str:
    name = re.match(r"[\w.-]+", requirement)
    assert name is not None
    return re.sub(r"[-_.]+", "-", name[0]).lower()


def _numbers(text: str) -> list[int]:
    return [*map(int, re.match(r"\d+(\.\d+)*", text)[0].split("."))]  # type: ignore[index]


if __name__ == "__main__":
    print("\n".join(wheels_for_offline_install() if sys.argv[1:] == ["--wheels"] else unmet_requirements("tests")))
