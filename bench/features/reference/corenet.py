"""Import of apple/corenet from a checkout. Importing it executes that code: only child processes import it."""

import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import torchvision.io

# Packages that CoreNet's modules import and no step of a training on images uses.
UNUSED_PACKAGES = (
    "av",
    "boto3",
    "coremltools",
    "pybase64",
    "pytorchvideo",
    "requests",
    "torchaudio",
    "torchtext",
    "ujson",
)


class _EmptyPackageFinder(MetaPathFinder, Loader):
    """An import hook by which the unused packages are empty modules."""

    def find_spec(
        self, name: str, _path: object = None, _target: object = None
    ) -> ModuleSpec | None:
        is_unused = name.partition(".")[0] in UNUSED_PACKAGES
        return ModuleSpec(name, self, is_package=True) if is_unused else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _EmptyModule(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        pass


class _EmptyModule(ModuleType):
    """A module in which every name is an empty class."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


def import_corenet(checkout: Path) -> None:
    """Make `corenet` importable from a checkout, with empty replacements of what is not installed and no step uses."""
    sys.path.append(str(checkout))
    sys.meta_path.append(_EmptyPackageFinder())  # after the finders of installed packages
    for name in ("write_video", "read_video"):  # torchvision has dropped them
        if not hasattr(torchvision.io, name):
            setattr(torchvision.io, name, None)
