"""The door through which what other people add comes in: files, modules and installed packages. No torch here.

An extension is a module whose `EXTENSION` says what it adds. It is trusted like code: a command names it with
`--extension PATH.py` or `--extension package.module`, or an installed package has an entry point of the group
`catlip_bench`. Processes that a command starts load the same ones.
"""

import importlib
import importlib.util
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

from bench.console.console import format_error_on_one_line, log
from bench.environment.child_processes import PARENT
from bench.environment.circumstances import LOADED_EXTENSIONS
from bench.environment.files import require_regular_file_if_exists
from bench.experiment.config import declare_method_fields
from bench.experiment.experiments import MethodChangesFromClip, add_experiments
from bench.interfaces.catalog import PROTOCOLS, TASKS, ScoringProtocol, TransferTask
from bench.interfaces.data_source import SOURCES, DataSource
from bench.interfaces.measurement import MEASUREMENTS, ExtensionMeasurement
from bench.interfaces.method import METHODS, Method, require_method_accepts
from bench.interfaces.optimizer import OPTIMIZERS, OptimizerBuilder
from bench.interfaces.registry import Registry
from bench.interfaces.schedule import SCHEDULES, Schedule
from bench.interfaces.sections import SECTIONS, PageSection
from bench.interfaces.verb import REPORT_VERBS, VERBS, LazyVerb
from bench.records.record import register_record_kind
from bench.records.record_kind import RecordContent

EXTENSION_OPTION = "--extension"
ENTRY_POINT_GROUP = "catlip_bench"
# Environment variable by which the processes of a command learn of those that it names: a JSON list.
EXTENSIONS_ENV = "CATLIP_BENCH_EXTENSIONS"
FEATURES = Path(__file__).parents[1] / "features"  # folders with what this program adds to its core
MODULE_PREFIX = "catlip_bench_extension_"  # of the module of a file
_loaded = set[str]()  # files and modules


@dataclass(frozen=True, slots=True)
class Extension:
    """What a module adds."""

    methods: Sequence[Method] = ()
    # Settings of experiments at every scale, by the first part of their names; a method without any has an experiment
    # of its own name.
    experiments: Mapping[str, MethodChangesFromClip] = field(default_factory=dict)
    optimizers: Sequence[OptimizerBuilder] = ()
    schedules: Sequence[Schedule] = ()
    record_kinds: Sequence[type[RecordContent]] = ()
    verbs: Sequence[LazyVerb] = ()
    report_verbs: Sequence[LazyVerb] = ()  # verbs of `report`, which make files of records
    measurements: Sequence[ExtensionMeasurement] = ()
    sections: Sequence[PageSection] = ()  # of the page of a comparison
    sources: Sequence[DataSource] = ()
    tasks: Sequence[TransferTask] = ()
    protocols: Sequence[ScoringProtocol] = ()


REGISTRY_BY_FIELD: dict[str, Registry[Any]] = {
    "methods": METHODS,
    "optimizers": OPTIMIZERS,
    "schedules": SCHEDULES,
    "verbs": VERBS,
    "report_verbs": REPORT_VERBS,
    "measurements": MEASUREMENTS,
    "sections": SECTIONS,
    "sources": SOURCES,
    "tasks": TASKS,
    "protocols": PROTOCOLS,
}  # by the field of `Extension`


def split_extension_arguments(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the values of `--extension` in a command line, "" for a missing one, and the other words."""
    named = list[str]()
    others = list[str]()
    words = iter(arguments)
    for word in words:
        option, _, value = word.partition("=")
        if option != EXTENSION_OPTION:
            others.append(word)
        else:
            named.append(value or next(words, ""))
    return named, others


def load_features_and_extensions(files_and_modules: Sequence[str] = ()) -> None:
    """Load features of this program, extensions of installed packages, and those named here or by the parent process.

    An installed extension that cannot be loaded is left out with a line; ValueError for a named one that cannot.
    """
    for path in sorted(FEATURES.glob("*/feature.py")):
        name = f"bench.features.{path.parent.name}.feature"
        if name not in _loaded:
            module = importlib.import_module(name)
            _register_extension(module.EXTENSION, f"the feature {path.parent.name}")
            _loaded.add(name)
    _load_installed_extensions()
    sources = json.loads(os.environ.get(EXTENSIONS_ENV, "[]"))
    for name in files_and_modules:
        sources.append(str(Path(name).resolve()) if name.endswith(".py") else name)
    for source in sources:
        name = Path(source).stem if source.endswith(".py") else source
        _load_extension(name, source, f"{EXTENSION_OPTION} {source}")
    if sources:
        os.environ[EXTENSIONS_ENV] = json.dumps([*dict.fromkeys(sources)])


def _load_installed_extensions() -> None:
    """Load the extensions of installed packages; one that cannot be loaded is left out with a line."""
    for point in metadata.entry_points(group=ENTRY_POINT_GROUP):
        package = point.dist
        assert package is not None
        try:
            _load_extension(
                point.name, point.module, f"the package {package.name}", package.version
            )
        except ValueError as error:
            if PARENT not in os.environ:  # runs do not repeat it
                log(f"left out: {error}")


def _load_extension(name: str, source: str, origin: str, version: str = "") -> None:
    """Load an extension unless its source is loaded; records call it by its name."""
    if source in _loaded:
        return
    if name in LOADED_EXTENSIONS:
        raise ValueError(f"{origin}: another extension is named {name!r}")
    try:
        is_file = source.endswith(".py")
        module = _import_file(Path(source)) if is_file else importlib.import_module(source)
        version = version or getattr(module, "__version__", "no version")
        LOADED_EXTENSIONS[name] = f"{version}, sha256 {_digest_module_sources(module)}"
        _register_extension(module.EXTENSION, origin)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - it is the code of others
        reason = format_error_on_one_line(f"{type(error).__name__}: {error}")
        raise ValueError(f"{origin} cannot be loaded: {reason}") from None
    _loaded.add(source)


def get_loaded_extension(named: str) -> Extension:
    """Return what a loaded file or module adds."""
    name = MODULE_PREFIX + Path(named).stem if named.endswith(".py") else named
    extension: Extension = sys.modules[name].EXTENSION
    return extension


def _register_extension(extension: Extension, origin: str) -> None:
    """Add all that an extension adds; ValueError for what cannot be used."""
    for name, registry in REGISTRY_BY_FIELD.items():
        for member in getattr(extension, name):
            registry.add(member, origin)
    for record_kind in extension.record_kinds:
        register_record_kind(record_kind)
    settings_by_name = {
        method.name: MethodChangesFromClip(method.name) for method in extension.methods
    }
    for method in extension.methods:
        declare_method_fields(method.name, method.settings)
    for name, settings in {**settings_by_name, **extension.experiments}.items():
        for experiment in add_experiments(name, settings):
            require_method_accepts(experiment)


def _digest_module_sources(module: ModuleType) -> str:
    """Return a digest of the package that a module is in, or of a module's file and the neighbours that it imports."""
    folder = Path(str(module.__file__)).parent
    package = sys.modules.get(module.__name__.partition(".")[0])
    files = {path for root in getattr(package, "__path__", ()) for path in Path(root).rglob("*.py")}
    if not files:
        for other in list(sys.modules.values()):
            path = Path(getattr(other, "__file__", None) or "")
            if path.parent == folder and path.suffix == ".py":
                files.add(path)
    digests = [sha256(path.read_bytes()).digest() for path in sorted(files)]
    return sha256(b"".join(digests)).hexdigest()[:16]


def _import_file(path: Path) -> ModuleType:
    """Import a file under a name that every process gives it, so that objects of it can be sent to other processes.

    The file can import its neighbours, whose folder stays on the path of modules.
    """
    name = MODULE_PREFIX + path.stem
    spec = importlib.util.spec_from_file_location(name, require_regular_file_if_exists(path))
    assert spec is not None
    assert spec.loader is not None
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
