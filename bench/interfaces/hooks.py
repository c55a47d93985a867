"""Hooks: functions that features offer by name, so that other parts can use a feature that may not be here. No torch.

- `count_labels(an experiment's input, rule's name)`: the `Vocabulary`, counted on all cores.
"""

from collections.abc import Callable
from typing import Any

from bench.interfaces.registry import import_object

# Where each function lies, as "package.module:function"; empty: no feature offers it.
HOOKS = {"count_labels": ""}


def find_hook(name: str) -> Callable[..., Any] | None:
    """Return the function of a hook; None if no feature offers it."""
    return import_object(HOOKS[name]) if HOOKS[name] else None
