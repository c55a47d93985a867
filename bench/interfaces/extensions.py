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
from typing import TYPE_CHECKING, Any

import msgspec

from bench.console.console import EXTENSION_OPTION, describe_error
from bench.environment.circumstances import LOADED_EXTENSIONS
from bench.experiment.config import FIELD_FACTS
from bench.experiment.experiments import MethodSettings, add_experiments
from bench.interfaces.catalog import PROTOCOLS, TASKS, Protocol, Task
from bench.interfaces.data_source import SOURCES, DataSource
from bench.interfaces.measurement import MEASUREMENTS, Measurement
from bench.interfaces.method import Method, add_method
from bench.interfaces.registry import import_object
from bench.interfaces.sections import Section, add_section
from bench.records.record_kind import KINDS, RecordKind, add_kind

if TYPE_CHECKING:
    from bench.cli.options import Command
    from bench.orchestration.request_base import Request

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
    runs: Sequence[type["Request"]] = ()  # that leave such records, or files of their own
    # Classes of verbs by name, or where they lie as "package.module:Class", which is imported when it is needed.
    verbs: Mapping[str, "type[Command] | str"] = field(default_factory=dict)
    # The same for verbs of `report`, which make files of records.
    report_verbs: Mapping[str, "type[Any] | str"] = field(default_factory=dict)
    measurements: Sequence[Measurement] = ()
    sections: Sequence[Section] = ()  # of the page of a comparison
    hooks: Mapping[str, str] = field(default_factory=dict)  # of bench/interfaces/hooks.py, as "package.module:function"
    sources: Sequence[DataSource] = ()
    tasks: Sequence[Task] = ()
    protocols: Sequence[Protocol] = ()


def load_extensions(named: Sequence[str] = ()) -> None:
    """Load features of this program, extensions of installed packages, and those named here or by the parent process.

    Raises ValueError for one that cannot be loaded, and for a name that two of them have or add.
    """
    if any(not name or name.startswith("-") for name in named):
        raise ValueError(f"{EXTENSION_OPTION} needs a value: a file PATH.py, or a module of an installed package")
    known = [word for word in os.environ.get(EXTENSIONS_ENV, "").split(os.pathsep) if word]
    paths = [str(Path(name).resolve()) if name.endswith(".py") else name for name in named]
    wanted = [*dict.fromkeys([*known, *paths])]
    for file in sorted(FEATURES.glob("*/feature.py")):
        _load_feature(file.parent.name)
    for point in entry_points(group=ENTRY_POINT_GROUP):
        package, version = (point.dist.name, point.dist.version) if point.dist is not None else (point.module, "")
        _load(point.name, point.module, f"the package {package}", version)
    for source in wanted:
        _load(Path(source).stem if source.endswith(".py") else source, source, f"{EXTENSION_OPTION} {source}")
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
        raise ValueError(f"{origin}: another extension has the name {name!r}, give the file or module another one")
    if source.endswith(".py") and not Path(source).is_file():
        raise ValueError(f"{origin}: there is no such file")
    try:
        module = _import_file(Path(source)) if source.endswith(".py") else importlib.import_module(source)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - it is the code of others
        raise ValueError(f"{origin} cannot be loaded: {describe_error(f'{type(error).__name__}: {error}')}") from None
    extension = getattr(module, "EXTENSION", None)
    if not isinstance(extension, Extension):
        reason = "it must be a bench.interfaces.extensions.Extension that says what it adds"
        raise ValueError(f"{origin} has no EXTENSION: {reason}")  # noqa: TRY004 - a usage error
    _add(extension, origin)
    _sources.add(source)
    LOADED_EXTENSIONS[name] = f"{version or getattr(module, '__version__', 'no version')}, sha256 {_digest(module)}"


def _add(extension: Extension, origin: str) -> None:
    """Add all that an extension adds; what higher layers hold is added by functions that are imported when needed."""
    for method in extension.methods:
        _add_method(method, origin)
    for section in extension.sections:
        add_section(section, origin)
    own = {method.name: MethodSettings(method.name) for method in extension.methods}
    for experiment, settings in (own | dict(extension.experiments)).items():
        add_experiments(experiment, settings, origin)
    for kind in extension.record_kinds:
        add_kind(KINDS, kind, RecordKind, origin)
    for run in extension.runs:
        import_object("bench.orchestration.request_base:add_request_kind")(run, origin)
    by_name = {
        "bench.cli.verbs:VERBS": extension.verbs,
        "bench.cli.verbs:REPORT_VERBS": extension.report_verbs,
        "bench.interfaces.hooks:HOOKS": extension.hooks,
    }
    for registry, named in by_name.items():
        for name, one in named.items():
            import_object(registry).add(name, one, origin)
    checked = (
        (MEASUREMENTS, extension.measurements),
        (SOURCES, extension.sources),
        (TASKS, extension.tasks),
        (PROTOCOLS, extension.protocols),
    )
    for objects, added in checked:
        for thing in added:
            objects.add_checked(thing, origin)


def _add_method(method: Method, origin: str) -> None:
    add_method(method, origin)
    for field_ in msgspec.structs.fields(method.settings):
        name = f"{origin}: the method {method.name} declares {field_.name}"
        if field_.name in FIELD_FACTS:
            raise ValueError(f"{name}, which experiments have: give it another name")
        if not getattr(getattr(field_.type, "__metadata__", (None,))[-1], "description", None):
            raise ValueError(
                f"{name} without a description: declare it as Annotated[KIND, field_metadata(...)] of "
                "bench.experiment.fields"
            )
        if field_.required:
            raise ValueError(f"{name} without a default: give it one")


def _digest(module: ModuleType) -> str:
    """Return a digest of a module's file, or of all modules of the package that it is in."""
    file = Path(str(module.__file__))
    root = sys.modules.get(module.__name__.partition(".")[0])
    folders = getattr(root, "__path__", ())
    files = sorted(path for folder in folders for path in Path(folder).rglob("*.py")) or [file]
    return sha256(b"".join(sha256(path.read_bytes()).digest() for path in files)).hexdigest()[:16]


def _import_file(path: Path) -> ModuleType:
    """Import a file under a name that every process gives it, so that objects of it can be handed over."""
    name = MODULE_PREFIX + path.stem
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
