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
from typing import Any

from bench.console.console import EXTENSION_OPTION, describe_error
from bench.environment.circumstances import LOADED_EXTENSIONS
from bench.experiment.experiments import MethodSettings, add_experiments
from bench.interfaces.catalog import PROTOCOLS, TASKS, Protocol, Task
from bench.interfaces.data_source import SOURCES, DataSource
from bench.interfaces.measurement import MEASUREMENTS, Measurement
from bench.interfaces.method import Method, add_method, check_experiment, get_method
from bench.interfaces.registry import Registry, import_object
from bench.interfaces.sections import SECTIONS, Section
from bench.records.record import add_kind
from bench.records.record_kind import RecordKind

ENTRY_POINT_GROUP = "catlip_bench"
EXTENSIONS_ENV = "CATLIP_BENCH_EXTENSIONS"  # environment variable with those that a command names, for its processes
FEATURES = Path(__file__).parents[1] / "features"  # folders with what this program adds to its core
MODULE_PREFIX = "catlip_bench_extension_"  # of the module of a file
_sources = set[str]()  # files and modules that are loaded


@dataclass(frozen=True, slots=True)
class Extension:
    """What a module adds."""

    methods: Sequence[Method] = ()
    # Settings of experiments at every scale, by the first part of their names; a method without any has an experiment
    # of its own name.
    experiments: Mapping[str, MethodSettings] = field(default_factory=dict)
    record_kinds: Sequence[type[RecordKind]] = ()
    # Classes of verbs (`bench.interfaces.verb.Command`) by name, or where they lie as "package.module:Class", which is
    # imported when it is needed.
    verbs: Mapping[str, type[Any] | str] = field(default_factory=dict)
    # The same for verbs of `report`, which make files of records.
    report_verbs: Mapping[str, type[Any] | str] = field(default_factory=dict)
    measurements: Sequence[Measurement] = ()
    sections: Sequence[Section] = ()  # of the page of a comparison
    # Of bench/interfaces/hooks.py, as "package.module:function".
    hooks: Mapping[str, str] = field(default_factory=dict)
    sources: Sequence[DataSource] = ()
    tasks: Sequence[Task] = ()
    protocols: Sequence[Protocol] = ()


def load_extensions(named: Sequence[str] = ()) -> None:
    """Load features of this program, extensions of installed packages, and those named here or by the parent process.

    Raises ValueError for one that cannot be loaded, and for a name that two of them have or add.
    """
    if any(not name or name.startswith("-") for name in named):
        raise ValueError(
            f"{EXTENSION_OPTION} needs a value: a file PATH.py, or a module of an installed package"
        )
    known = [word for word in os.environ.get(EXTENSIONS_ENV, "").split(os.pathsep) if word]
    paths = [str(Path(name).resolve()) if name.endswith(".py") else name for name in named]
    wanted = [*dict.fromkeys([*known, *paths])]
    for file in sorted(FEATURES.glob("*/feature.py")):
        _load_feature(file.parent.name)
    for point in entry_points(group=ENTRY_POINT_GROUP):
        package, version = (
            (point.dist.name, point.dist.version) if point.dist is not None else (point.module, "")
        )
        _load(point.name, point.module, f"the package {package}", version)
    for source in wanted:
        _load(
            Path(source).stem if source.endswith(".py") else source,
            source,
            f"{EXTENSION_OPTION} {source}",
        )
    if wanted:
        os.environ[EXTENSIONS_ENV] = os.pathsep.join(wanted)


def _load_feature(name: str) -> None:
    """Load a part of this program unless it is loaded; it is no extension in records."""
    source = f"bench.features.{name}.feature"
    if source not in _sources:
        _add(importlib.import_module(source).EXTENSION, f"this program's feature {name}")
        _sources.add(source)


def _load(name: str, source: str, origin: str, version: str = "") -> None:
    """Load an extension unless its source is loaded; `name` is that in records."""
    if source in _sources:
        return
    if name in LOADED_EXTENSIONS:
        raise ValueError(
            f"{origin}: another extension has the name {name!r}, give the file or module another one"
        )
    if source.endswith(".py") and not Path(source).is_file():
        raise ValueError(f"{origin}: there is no such file")
    try:
        module = (
            _import_file(Path(source))
            if source.endswith(".py")
            else importlib.import_module(source)
        )
    except (Exception, SystemExit) as error:  # noqa: BLE001 - it is the code of others
        raise ValueError(
            f"{origin} cannot be loaded: {describe_error(f'{type(error).__name__}: {error}')}"
        ) from None
    extension = getattr(module, "EXTENSION", None)
    if not isinstance(extension, Extension):
        reason = "it must be a bench.interfaces.extensions.Extension that says what it adds"
        raise ValueError(f"{origin} has no EXTENSION: {reason}")  # noqa: TRY004 - a usage error
    _add(extension, origin)
    _sources.add(source)
    LOADED_EXTENSIONS[name] = (
        f"{version or getattr(module, '__version__', 'no version')}, sha256 {_digest(module)}"
    )


def _add(extension: Extension, origin: str) -> None:
    """Add all that an extension adds; registries of higher layers are imported when they are needed."""
    for method in extension.methods:
        add_method(method, origin)
    own_experiments = {method.name: MethodSettings(method.name) for method in extension.methods}
    for name, settings in {**own_experiments, **extension.experiments}.items():
        _add_experiments(name, settings, origin)
    for record_kind in extension.record_kinds:
        add_kind(record_kind, origin)
    named_members: dict[str, tuple[Registry[Any], Sequence[Any]]] = {
        "sections": (SECTIONS, extension.sections),
        "measurements": (MEASUREMENTS, extension.measurements),
        "sources": (SOURCES, extension.sources),
        "tasks": (TASKS, extension.tasks),
        "protocols": (PROTOCOLS, extension.protocols),
    }
    for registry, members in named_members.values():
        for member in members:
            registry.add_named(member, origin)
    members_by_name: dict[str, Mapping[str, Any]] = {
        "bench.cli.verbs:VERBS": extension.verbs,
        "bench.cli.verbs:REPORT_VERBS": extension.report_verbs,
        "bench.interfaces.hooks:HOOKS": extension.hooks,
    }
    for place, by_name in members_by_name.items():
        for name, member in by_name.items():
            import_object(place).add(name, member, origin)


def _add_experiments(name: str, settings: MethodSettings, origin: str) -> None:
    get_method(settings.method)
    for experiment in add_experiments(name, settings, origin):
        try:
            check_experiment(experiment)
        except ValueError as error:
            raise ValueError(
                f"{origin}: the experiment {experiment.name} cannot be made: {error}"
            ) from None


def _digest(module: ModuleType) -> str:
    """Return a digest of the package that a module is in, or of a module's file and the neighbours that it imports."""
    file = Path(str(module.__file__))
    package = sys.modules.get(module.__name__.partition(".")[0])
    folders = getattr(package, "__path__", ())
    files = [path for folder in folders for path in Path(folder).rglob("*.py")]
    if not files:
        loaded = [
            Path(str(getattr(other, "__file__", None) or "")) for other in [*sys.modules.values()]
        ]
        files = [path for path in loaded if path.parent == file.parent and path.suffix == ".py"]
    digests = [sha256(path.read_bytes()).digest() for path in sorted({*files})]
    return sha256(b"".join(digests)).hexdigest()[:16]


def _import_file(path: Path) -> ModuleType:
    """Import a file under a name that every process gives it, so that objects of it can be sent to other processes.

    The file can import its neighbours, whose folder stays on the path of modules.
    """
    name = MODULE_PREFIX + path.stem
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
