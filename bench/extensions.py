"""The door through which what other people add comes in: files, modules and installed packages. No torch here.

An extension is a module whose `EXTENSION` says what it adds. It is trusted like code: a command names it with
`--extension PATH.py` or `--extension package.module`, or an installed package has an entry point of the group
`catlip_bench`. Processes that a command starts load the same ones.
"""

import importlib
import importlib.util
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType

from bench.console.console import describe_error
from bench.environment.circumstances import LOADED_EXTENSIONS
from bench.experiments import MethodSettings, add_experiments
from bench.method import Method, add_method

OPTION, GROUP = "--extension", "catlip_bench"
VARIABLE = (
    "CATLIP_BENCH_EXTENSIONS"  # environment variable with those that a command names, for the processes it starts
)
MODULE_PREFIX = "catlip_bench_extension_"  # of the module of a file


@dataclass(frozen=True, slots=True)
class Extension:
    """What a module adds."""

    methods: Sequence[Method] = ()
    # Settings of experiments at every scale, by the first part of their names; a method without any has an experiment
    # of its own name.
    experiments: Mapping[str, MethodSettings] = field(default_factory=dict)


def take_extensions(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return what `--extension` names in a command line, "" for one without a value, and the other words."""
    named, others = list[str](), list[str]()
    words = iter(arguments)
    for word in words:
        if word == OPTION:
            named.append(next(words, ""))
        elif word.startswith(f"{OPTION}="):
            named.append(word.partition("=")[2])
        else:
            others.append(word)
    return named, others


def load_extensions(named: Sequence[str] = ()) -> None:
    """Load the extensions of installed packages, and those that this command or the one that started it names.

    Raises ValueError for one that cannot be loaded, and for a name that two of them add.
    """
    if any(not name or name.startswith("-") for name in named):
        raise ValueError(f"{OPTION} needs a value: a file PATH.py, or a module of an installed package")
    known = [word for word in os.environ.get(VARIABLE, "").split(os.pathsep) if word]
    paths = [str(Path(name).resolve()) if name.endswith(".py") else name for name in named]
    wanted = [*dict.fromkeys([*known, *paths])]
    for point in entry_points(group=GROUP):
        version = point.dist.version if point.dist is not None else ""
        _load(point.name, point.module, f"the package {point.dist.name if point.dist else point.module}", version)
    for name in wanted:
        _load(Path(name).stem if name.endswith(".py") else name, name, f"{OPTION} {name}")
    if wanted:
        os.environ[VARIABLE] = os.pathsep.join(wanted)


def _load(name: str, source: str, origin: str, version: str = "") -> None:
    if name in LOADED_EXTENSIONS:
        return
    try:
        module = _import_file(Path(source)) if source.endswith(".py") else importlib.import_module(source)
    except FileNotFoundError:
        raise ValueError(f"{origin}: there is no such file") from None
    except (Exception, SystemExit) as error:  # noqa: BLE001 - it is the code of others
        raise ValueError(f"{origin} cannot be loaded: {describe_error(f'{type(error).__name__}: {error}')}") from None
    extension = getattr(module, "EXTENSION", None)
    if not isinstance(extension, Extension):
        reason = "it must be a bench.extensions.Extension that says what it adds"
        raise ValueError(f"{origin} has no EXTENSION: {reason}")  # noqa: TRY004 - a usage error
    for method in extension.methods:
        add_method(method, origin)
    own = {method.name: MethodSettings(method.name) for method in extension.methods}
    for experiment, settings in (own | dict(extension.experiments)).items():
        add_experiments(experiment, settings, origin)
    digest = sha256(Path(str(module.__file__)).read_bytes()).hexdigest()[:16]
    LOADED_EXTENSIONS[name] = f"{version or getattr(module, '__version__', 'no version')}, sha256 {digest}"


def _import_file(path: Path) -> ModuleType:
    """Import a file under a name that every process gives it, so that objects of it can be handed over."""
    name = MODULE_PREFIX + path.stem
    if name in sys.modules:
        return sys.modules[name]
    if not path.is_file():
        raise FileNotFoundError(path)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
