"""Tower files: which experiment made them, and where the newest of an experiment lie."""

from pathlib import Path

import msgspec
from safetensors import SafetensorError, safe_open

from bench.config import Experiment
from bench.console.console import PROGRAM
from bench.environment.json_file import from_json


class Made(msgspec.Struct, frozen=True, kw_only=True):
    """How a tower came about; kept in its file."""

    experiment: Experiment
    images: int  # seen
    budgets: tuple[str, ...]  # that it was cooled down for

    def to_facts(self) -> dict[str, str]:
        """Write as what a safetensors header holds."""
        return {"made": msgspec.json.encode(self).decode()}


def how_made(path: Path) -> Made:
    """Read how a tower came about; ValueError where the file does not say."""
    try:
        with safe_open(path, framework="numpy") as file:
            facts = file.metadata() or {}
    except SafetensorError as error:
        raise ValueError(f"{path} is not a safetensors file: {error}") from None
    if "made" not in facts:
        raise ValueError(f"{path} does not say which experiment made it, so its tower cannot be built")
    try:
        return from_json(facts["made"], Made)
    except ValueError as error:
        raise ValueError(f"{path} does not say rightly which experiment made it: {error}") from None


def is_made_here(path: Path) -> bool:
    """Tell whether a file is a tower that a training here left."""
    if path.suffix != ".safetensors" or not path.is_file():
        return False
    try:
        with safe_open(path, framework="numpy") as file:
            return "made" in (file.metadata() or {})
    except SafetensorError as error:
        raise ValueError(f"{path} is not a safetensors file: {error}") from None


def head_path(tower: Path) -> Path:
    """Return where what was trained around a tower lies, by the tower's file (bench/towers/head_file.py)."""
    return tower.with_suffix(".head")


def newest_towers(results: Path, name: str) -> list[Path]:
    """Return the towers of a name's newest training, here or one folder down; ValueError says how to make one."""
    found = [path for here in (".", "*") for path in results.glob(f"{here}/*.tower.*.safetensors")]
    towers = [path for path in sorted(found, key=lambda path: path.name) if how_made(path).experiment.name == name]
    if not towers:
        raise ValueError(f"{results} holds no tower of {name!r}; make one with: {PROGRAM} train {name}")
    newest = towers[-1].name.split(".", 1)[0]
    return [path for path in towers if path.name.startswith(f"{newest}.")]
