"""Metadata of tower files, and the newest tower files of an experiment."""

from pathlib import Path

import msgspec
from safetensors import SafetensorError, safe_open

from bench.config import Experiment
from bench.console.console import PROGRAM
from bench.environment.files import decode_older, prefix_errors, require_regular
from bench.old_names import upgrade_experiment_of


class Provenance(msgspec.Struct, frozen=True, kw_only=True):
    """How a tower was trained; stored in its file."""

    experiment: Experiment
    images: int  # seen
    budgets: tuple[str, ...]  # for which it was cooled down

    def to_facts(self) -> dict[str, str]:
        """Return the metadata of a safetensors header."""
        return {"made": msgspec.json.encode(self).decode()}


def read_provenance(path: Path) -> Provenance:
    """Read how a tower was trained; ValueError for a file without this metadata."""
    facts = read_metadata(path)
    if "made" not in facts:
        raise ValueError(f"{path} does not say which experiment made it, so its tower cannot be built")
    with prefix_errors(f"{path} has invalid metadata of the experiment that made it"):
        return decode_older(facts["made"], Provenance, upgrade_experiment_of)


def is_made_here(path: Path) -> bool:
    """Return whether a file is a tower that was trained here."""
    return path.suffix == ".safetensors" and path.is_file() and "made" in read_metadata(path)


def read_metadata(path: Path) -> dict[str, str]:
    """Return the metadata of a safetensors file; ValueError for another file."""
    require_regular(path)
    with prefix_errors(f"{path} is not a safetensors file", (SafetensorError,)), safe_open(path, "numpy") as file:
        return file.metadata() or {}


def head_path(tower: Path) -> Path:
    """Return the file of the head that was trained with a tower (bench/towers/head_file.py)."""
    return tower.with_suffix(".head")


def latest_towers(results: Path, name: str) -> list[Path]:
    """Return the towers of an experiment's newest training, in `results` or one folder down; else ValueError."""
    found = [path for folder in (".", "*") for path in results.glob(f"{folder}/*.tower.*.safetensors")]
    found.sort(key=lambda path: path.name)
    names = {path: read_provenance(path).experiment.name for path in found}
    towers = [path for path in found if names[path] == name]
    if not towers:
        others = f"it holds {found[-1]}, of {names[found[-1]]}: name that file, or " if found else ""
        raise ValueError(f"{results} holds no tower of {name!r}; {others}make one with: {PROGRAM} train {name}")
    newest = towers[-1].name.split(".", 1)[0]
    return [path for path in towers if path.name.startswith(f"{newest}.")]
