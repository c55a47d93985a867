"""The families of tasks and protocols, each in a module here that is found by being here. No torch here."""

from importlib import import_module
from pkgutil import iter_modules

_families = [import_module(f"{__name__}.{module.name}") for module in iter_modules(__path__)]
TASKS = tuple(task for family in _families for task in getattr(family, "TASKS", ()))
PROTOCOLS = tuple(protocol for family in _families for protocol in getattr(family, "PROTOCOLS", ()))
