"""Metadata of tower files, and the newest tower files of an experiment."""

from itertools import chain
from operator import attrgetter
from pathlib import Path

import msgspec
from safetensors import SafetensorError, safe_open

from bench.console.console import PROGRAM
from bench.environment.files import decode_json, prefix_errors, require_regular_file_if_exists
from bench.experiment.config import Experiment
from bench.experiment.settings import strip_bracketed_settings
from bench.records.method_text import MethodDescription
from bench.records.record import comparison_name_from_filename


class TowerProvenance(msgspec.Struct, frozen=True, kw_only=True):
    """How a tower was trained; stored in its file."""

    experiment: Experiment
    images: int  # seen
    budgets: tuple[str, ...]  # for which it was cooled down
    # Of an extension; a method of this program has none.
    method: MethodDescription | msgspec.UnsetType = msgspec.UNSET

    def to_metadata(self) -> dict[str, str]:
        """Return this as the metadata of a safetensors file."""
        return {"made": msgspec.json.encode(self).decode()}


def read_tower_provenance(path: Path) -> TowerProvenance:
    """Read how a tower was trained; ValueError for a file without this metadata."""
    metadata = read_safetensors_metadata(path)
    if "made" not in metadata:
        raise ValueError(
            f"{path} does not say which experiment made it, so its tower cannot be built"
        )
    with prefix_errors(f"{path} has invalid metadata of the experiment that made it"):
        return decode_json(metadata["made"], TowerProvenance)


def is_catlip_bench_tower(path: Path) -> bool:
    """Return whether a file is a tower that this project trained; ValueError for a damaged .safetensors file."""
    return (
        path.suffix == ".safetensors"
        and path.is_file()
        and "made" in read_safetensors_metadata(path)
    )


def read_safetensors_metadata(path: Path) -> dict[str, str]:
    """Return the metadata of a safetensors file; ValueError for another file."""
    require_regular_file_if_exists(path)
    with (
        prefix_errors(f"{path} is not a safetensors file", (SafetensorError,)),
        safe_open(path, "numpy") as file,
    ):
        return file.metadata() or {}


def get_head_path(tower_path: Path) -> Path:
    """Return the path of the file that holds what was trained with a tower (bench/towers/head_file.py)."""
    return tower_path.with_suffix(".head")


def has_text_tower(tower_path: Path) -> bool:
    """Return whether the weights of a text tower that was trained with a tower are in the file beside it."""
    path = get_head_path(tower_path)
    if not path.is_file():
        return False
    with prefix_errors(path, (SafetensorError,)), safe_open(path, "numpy") as file:
        return any(name.startswith("text.") for name in file.keys())  # noqa: SIM118 - it is no dict


def find_latest_towers(results: Path, experiment_name: str) -> list[Path]:
    """Return the towers of an experiment's newest training for each seed, in `results` or one folder down.

    `experiment_name` is an experiment with its settings as they were trained, or without them where the folder holds
    towers with one choice of settings. ValueError for no such experiment, or for several.
    """
    paths = [*results.glob("*.tower.*.safetensors"), *results.glob("*/*.tower.*.safetensors")]
    newest_by_name: dict[str, dict[int, list[Path]]] = {}  # then by seed
    paths.sort(key=lambda path: (comparison_name_from_filename(path), path))
    for path in paths:  # the oldest first: the name begins with the time
        experiment = read_tower_provenance(path).experiment
        newest_by_seed = newest_by_name.setdefault(experiment.name, {})
        newest = newest_by_seed.setdefault(experiment.seed, [])
        comparison = path.with_name(comparison_name_from_filename(path))
        if newest and newest[0].with_name(comparison_name_from_filename(newest[0])) != comparison:
            newest.clear()  # they are of an earlier training, or of one in another folder
        newest.append(path)
    names = {experiment_name} & newest_by_name.keys()
    if not names:
        names = {
            name for name in newest_by_name if strip_bracketed_settings(name) == experiment_name
        }
    if len(names) != 1:
        content = ", ".join(sorted(names)) or "no tower"
        raise ValueError(
            f"{results} holds {content} of {experiment_name!r}: name one of several, or make one with: "
            f"{PROGRAM} train {experiment_name}"
        )
    newest_by_seed = newest_by_name[names.pop()]
    return sorted(chain.from_iterable(newest_by_seed.values()), key=attrgetter("name"))
