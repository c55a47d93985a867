"""Makes apple/corenet importable from a checkout. Importing it executes that code: only child processes do."""

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


class _StubPackageFinder(MetaPathFinder, Loader):
    """An import hook that makes a stub module of each unused package that is not installed, and of its submodules."""

    def find_spec(
        self, name: str, _path: object = None, _target: object = None
    ) -> ModuleSpec | None:
        """Find the unused packages alone."""
        is_unused = name.partition(".")[0] in UNUSED_PACKAGES
        return ModuleSpec(name, self, is_package=True) if is_unused else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Return a stub."""
        return _StubModule(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Do nothing: a stub is complete."""


class _StubModule(ModuleType):
    """A module in which every name is an empty class."""

    def __getattr__(self, name: str) -> Any:
        """Return an empty class of this name."""
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


def make_corenet_importable(checkout: Path) -> None:
    """Make `corenet` importable from a checkout, with stubs for unused packages that are not installed."""
    sys.path.append(str(checkout))
    sys.meta_path.append(_StubPackageFinder())  # after the finders of installed packages
    for name in ("write_video", "read_video"):  # torchvision has dropped them
        if not hasattr(torchvision.io, name):
            setattr(torchvision.io, name, None)
