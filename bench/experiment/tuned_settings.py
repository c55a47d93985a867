"""Settings of experiments that `tune` chose, in TOML files with a table for each experiment."""

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path

import msgspec

from bench.environment.files import prefix_errors, read_bytes_unless_larger


class TunedSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a search chose for an experiment."""

    settings: list[str]  # FIELD=VALUE, as of `--set`
    source: str  # what the search cost, and the name of the chosen trial's record


def read_tuned_settings(path: Path) -> dict[str, TunedSettings]:
    """Read a file of settings by the name of the experiment; ValueError says what is wrong with it."""
    content = read_bytes_unless_larger(path)
    with prefix_errors(path, (ValueError, msgspec.ValidationError)):
        tables = tomllib.loads(content.decode())
        return msgspec.convert(tables, dict[str, TunedSettings])


def format_tuned_settings(tuned: Mapping[str, TunedSettings]) -> str:
    """Return the text of a file of settings; TOML has texts and lists of texts as JSON has them."""
    return "".join(
        f"[{name}]\nsettings = {json.dumps(chosen.settings)}\nsource = {json.dumps(chosen.source)}\n"
        for name, chosen in tuned.items()
    )


# Of the named experiments, as a search chose them.
KEPT_SETTINGS = read_tuned_settings(Path(__file__).with_suffix(".toml"))
