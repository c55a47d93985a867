"""The settings of released recipes beside ours: each equal, or different with the reason. No torch here."""

import tomllib
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any, Literal

import msgspec

from bench.experiment.config import look_up
from bench.experiment.experiments import EXPERIMENTS
from bench.tables.tables import Table

FILE = Path(__file__).with_name("released_recipes.toml")


class ReleasedSetting(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A setting of a released recipe, and what this project has in its place."""

    released: Any
    where: str = ""  # "FILE: FRAGMENT" of the released code, where no field says it; "not" before a missing fragment
    ours: str = ""  # field=value of our experiment; empty: no field
    # Unused: it changes neither a loss nor the work of a step.
    state: Literal["equal", "different", "unused"] = "equal"
    reason: str = ""  # of a state other than equal, or why it is equal without a field


class ReleasedRecipe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of bench/cli/released_recipes.toml."""

    keys: dict[str, ReleasedSetting]
    source: str = ""
    like: str = ""  # the table whose settings come before its own


@cache
def _read_tables() -> dict[str, ReleasedRecipe]:
    return msgspec.convert(
        tomllib.loads(FILE.read_text(encoding="utf-8")), dict[str, ReleasedRecipe]
    )


def released_recipe_names() -> tuple[str, ...]:
    """Return the names of the experiments that follow a released recipe."""
    return tuple(name for name in _read_tables() if name in EXPERIMENTS)


def released_settings(name: str) -> dict[str, ReleasedSetting]:
    """Return the settings of a table by their released names."""
    recipe = _read_tables()[name]
    return (released_settings(recipe.like) if recipe.like else {}) | recipe.keys


def released_recipe_table(name: str) -> Table:
    """Return every setting of an experiment's released recipe beside ours; ValueError names the recipes there are."""
    look_up(name, dict.fromkeys(released_recipe_names()), "released recipe")
    settings = sorted(released_settings(name).items(), key=lambda item: item[1].state)
    rows = [
        {
            "released setting": key,
            "value": str(setting.released),
            "here": setting.ours,
            "state": setting.state,
            "reason": setting.reason,
        }
        for key, setting in settings
    ]
    counts = Counter(setting.state for _, setting in settings)
    note = ", ".join(f"{number} {state}" for state, number in counts.items())
    return Table.from_dicts(f"{name} beside {_read_tables()[name].source}", rows, note)
